# SPDX-License-Identifier: Apache-2.0
"""``vla-ros``: one command line for everything."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from vla_ros import __version__
from vla_ros.errors import VlaRosError

# Imported only when asked for: --help must not wait for MuJoCo or rclpy.
_COMMANDS = {
    "demo": "run the whole stack in simulation and watch it follow instructions",
    "lockstep": "run episodes in virtual time, without ROS, many times faster than real time",
    "contact": "wipe a surface with a force and put a peg into a hole, in virtual time",
    "experiment": "compare execution strategies in virtual time, by a plan written down before",
    "policy": "make, train and export learned policies; check, show and time any export",
    "bench": "measure speed, always beside an alternative in the same run",
    "doctor": "check what this machine lacks",
    "faults": "kill, freeze and stop parts during motion and see what the arm does",
    "timing": "measure whether every loop keeps its rate, with everything on",
    "nodes": "list the nodes that a demo starts",
    "controllers": "list, load and switch ros2_control controllers, and set their gains",
}
EXIT_REFUSED = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ``vla-ros``; returns the exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(
        prog="vla-ros",
        description=(
            "Asynchronous fast-slow control of robot arms by vision-language-action policies."
        ),
    )
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="command", metavar="command", required=True)
    chosen = next((a for a in arguments if not a.startswith("-")), "")
    for name, text in _COMMANDS.items():
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        if name == chosen:
            module = importlib.import_module(f"vla_ros.commands.{name}")
            module.add_arguments(sub)
            sub.set_defaults(run=module.run)
    namespace = parser.parse_args(arguments)
    try:
        return int(namespace.run(namespace))
    except VlaRosError as error:
        sys.stderr.write(f"vla-ros {namespace.command}: {error}\n")
        return EXIT_REFUSED
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    raise SystemExit(main())
