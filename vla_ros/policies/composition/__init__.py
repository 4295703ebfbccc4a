# SPDX-License-Identifier: Apache-2.0
"""Several policies, or several samples of one, made into one chunk."""
