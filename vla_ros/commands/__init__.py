# SPDX-License-Identifier: Apache-2.0
"""The verbs of ``vla-ros``; each module adds its options and runs one of them."""
