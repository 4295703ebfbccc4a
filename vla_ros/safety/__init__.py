# SPDX-License-Identifier: Apache-2.0
"""Who may move the arm, and when the stack must stop it."""
