# SPDX-License-Identifier: Apache-2.0
"""The manifest of an exported policy: what its files are, what its tensors mean, what it can do."""
