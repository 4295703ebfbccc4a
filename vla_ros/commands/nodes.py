# SPDX-License-Identifier: Apache-2.0
"""``vla-ros nodes``: the nodes that a demo starts, with their parameters."""

from __future__ import annotations

import argparse
from pathlib import Path

from vla_ros.bringup import BringupConfig, nodes_for
from vla_ros.commands.options import add_options, read_options
from vla_ros.commands.output import say
from vla_ros.sim.prepare import SceneFiles

HELP = "list the nodes that a demo starts"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_options(parser.add_argument_group("what to run"), BringupConfig)


def run(namespace: argparse.Namespace) -> int:
    """Print the list; nothing is started."""
    config = read_options(namespace, BringupConfig)
    scene = SceneFiles(Path("<run>/scene/scene.mjb"), Path("<run>/scene/scene.json"))
    for spec in nodes_for(config, scene):
        end = "started again if it dies" if spec.respawn else "the run ends with it"
        say(f"{spec.name}  (nice {spec.nice}, {end})")
        for name, value in spec.parameters.items():
            say(f"  {name}: {value}")
    return 0
