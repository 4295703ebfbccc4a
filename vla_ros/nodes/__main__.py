# SPDX-License-Identifier: Apache-2.0
"""``python -m vla_ros.nodes <node> [--ros-args ...]``: the same as the node's executable."""

from __future__ import annotations

import importlib
import sys


def main() -> None:
    """Run the node named by the first argument."""
    name = sys.argv.pop(1)
    importlib.import_module(f"vla_ros.nodes.{name}").main()


main()
