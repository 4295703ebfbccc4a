# SPDX-License-Identifier: Apache-2.0
"""Ways to join chunks that arrive late: one module each, all behind ``base.Strategy``."""
