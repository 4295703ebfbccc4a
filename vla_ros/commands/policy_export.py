# SPDX-License-Identifier: Apache-2.0
"""``vla-ros policy export``: ONNX graphs and a manifest, of the direct policy or with a flow head.

Beside the halves of the direct policy both in one.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from vla_ros.commands.options import add_options, read_options
from vla_ros.commands.output import say
from vla_ros.config_fields import check_fields, setting
from vla_ros.learning.manifest import TOLD_UP_TO_S


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What is exported and where to."""

    checkpoint: str = setting(
        "runs/train/checkpoint.npz", "trained weights, of `policy train` or `policy train-flow`"
    )
    out: str = setting("models/pick-place", "folder of the export")
    name: str = setting("pick-place", "what the policy is called")
    told_up_to_s: float = setting(
        TOLD_UP_TO_S,
        "the fast half is told how old its latent is up to this age",
        unit="s",
        ge=0.0,
        le=3600.0,
    )

    def __post_init__(self) -> None:
        check_fields(self)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_options(parser.add_argument_group("what to export"), ExportOptions)


def run(namespace: argparse.Namespace) -> int:
    """Export the averaged weights; every graph is compared with PyTorch."""
    from vla_ros.learning.checkpoint import load_checkpoint
    from vla_ros.learning.export import export_policy
    from vla_ros.learning.flow_export import export_flow

    options = read_options(namespace, ExportOptions)
    checkpoint, out = Path(options.checkpoint), Path(options.out)
    loaded = load_checkpoint(checkpoint)
    if "flow" in loaded.settings:
        differences = export_flow(loaded, out, options.name)
    else:
        differences = export_policy(checkpoint, out, options.name, options.told_up_to_s)
    for graph, difference in differences.items():
        say(f"{graph:<8} differs from PyTorch by {difference:.1e} at most")
    size = sum(path.stat().st_size for path in Path(options.out).rglob("*") if path.is_file())
    say(f"{options.out}: {size / 1e6:.1f} MB")
    return 0
