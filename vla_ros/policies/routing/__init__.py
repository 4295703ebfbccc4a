# SPDX-License-Identifier: Apache-2.0
"""Small or large backbone, by deadline and difficulty."""
