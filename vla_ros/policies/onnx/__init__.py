# SPDX-License-Identifier: Apache-2.0
"""Policies exported as ONNX graphs, on whatever device there is."""
