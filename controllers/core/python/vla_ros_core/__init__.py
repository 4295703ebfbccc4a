# SPDX-License-Identifier: Apache-2.0
"""Control host, impedance law and shared-memory rings of vla_ros, in C++."""

from vla_ros_core._core import *  # noqa: F403
from vla_ros_core._core import __all__ as __all__
