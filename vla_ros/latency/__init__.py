# SPDX-License-Identifier: Apache-2.0
"""Age of data: stamps, the latent buffer, latency estimates, latents as bytes."""
