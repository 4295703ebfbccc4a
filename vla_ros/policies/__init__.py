# SPDX-License-Identifier: Apache-2.0
"""Policies: protocols, the classical reference policy and how they are chosen by name."""
