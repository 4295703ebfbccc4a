# SPDX-License-Identifier: Apache-2.0
"""``vla-ros policy export``: two ONNX graphs and a manifest; beside them both halves in one."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from vla_ros.commands.options import add_options, read_options
from vla_ros.commands.output import say
from vla_ros.config_fields import check_fields, setting


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is exported and where to."""

    checkpoint: str = setting("runs/train/checkpoint.npz", "trained weights")
    out: str = setting("models/pick-place", "folder of the export")
    name: str = setting("pick-place", "what the policy is called")

    def __post_init__(self) -> None:
        check_fields(self)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_options(parser.add_argument_group("what to export"), ExportOptions)


def run(namespace: argparse.Namespace) -> int:
    """Export the averaged weights; every graph is compared with PyTorch."""
    from vla_ros.learning.export import export_policy

    options = read_options(namespace, ExportOptions)
    for graph, difference in export_policy(
        Path(options.checkpoint), Path(options.out), options.name
    ).items():
        say(f"{graph:<6} differs from PyTorch by {difference:.1e} at most")
    size = sum(path.stat().st_size for path in Path(options.out).rglob("*") if path.is_file())
    say(f"{options.out}: {size / 1e6:.1f} MB")
    return 0
