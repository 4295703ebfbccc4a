# SPDX-License-Identifier: Apache-2.0
"""Bounded changes to what a frozen policy says: steering in its sampler, a residual, a limiter."""
