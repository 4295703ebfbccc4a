# SPDX-License-Identifier: Apache-2.0
"""What a run leaves behind for people: numbers, plots, a page and a video, made from its bags."""
