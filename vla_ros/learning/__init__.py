# SPDX-License-Identifier: Apache-2.0
"""The learned fast-slow policy: demonstrations, model, training, export, evaluation.

PyTorch and ONNX are imported where they are used: every module imports without them.
"""
