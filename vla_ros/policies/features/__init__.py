# SPDX-License-Identifier: Apache-2.0
"""Features of image patches, computed once and reused while nothing changed in the patch."""
