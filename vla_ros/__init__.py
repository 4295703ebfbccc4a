# SPDX-License-Identifier: Apache-2.0
"""vla_ros: asynchronous fast-slow control of robot arms by vision-language-action policies."""

__version__ = "0.1.0"
