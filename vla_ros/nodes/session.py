# SPDX-License-Identifier: Apache-2.0
"""A client node for commands, which themselves know nothing of ROS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import rclpy
from rclpy.node import Node


@contextmanager
def client_node(name: str) -> Iterator[Node]:
    """Yield a node in the domain of this process's environment; signals stay the caller's."""
    rclpy.init(args=[], signal_handler_options=rclpy.SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node(name, enable_rosout=False)
        try:
            yield node
        finally:
            node.destroy_node()
    finally:
        rclpy.try_shutdown()
