# SPDX-License-Identifier: Apache-2.0
"""``vla-ros policy``: make, train and export learned policies; check, show and time any export."""

from __future__ import annotations

import argparse
import importlib

_SUBCOMMANDS = {
    "demos": "let the scripted expert demonstrate the task in simulation, with noise",
    "train": "train both halves together on the demonstrations",
    "train-flow": "train a flow head on a trained policy, for strategies that guide denoising",
    "export": "write a trained policy as ONNX graphs with their manifest",
    "evaluate": "measure success in virtual time, on layouts never trained on",
    "card": "write the model card from what was measured",
    "check": "verify files, graphs and outputs of an export; 0 if all is in order",
    "show": "print what the manifest of an export says",
    "serve": "run a policy in this process for runtimes in others",
    "bench-gpu": "time a made-up policy of billions of weights, both halves at once",
    "bench": "time every graph of an export, beside another runtime if asked to",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the subcommands."""
    subparsers = parser.add_subparsers(dest="subcommand", metavar="subcommand", required=True)
    for name, text in _SUBCOMMANDS.items():
        module = importlib.import_module(f"vla_ros.commands.policy_{name.replace('-', '_')}")
        sub = subparsers.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        module.add_arguments(sub)
        sub.set_defaults(run_subcommand=module.run)


def run(namespace: argparse.Namespace) -> int:
    """Run the chosen subcommand."""
    return int(namespace.run_subcommand(namespace))
