# SPDX-License-Identifier: Apache-2.0
"""``vla-ros policy show``: the contract of an export, as a table."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict

from vla_ros.commands.output import say
from vla_ros.policies.manifest.files import PolicyFolder, open_policy
from vla_ros.policies.manifest.schema import (
    ImageDetails,
    InstructionDetails,
    LatentAgeDetails,
    NoiseDetails,
    StateDetails,
    TensorSpec,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    parser.add_argument("policy", help="folder of the export, or its manifest.yaml")


def run(namespace: argparse.Namespace) -> int:
    """Print the manifest."""
    for line in describe(open_policy(namespace.policy)):
        say(line)
    return 0


def describe(folder: PolicyFolder) -> Iterator[str]:
    """Yield the contract of a policy, line by line."""
    m = folder.manifest
    yield f"{m.name}  ({m.kind.value} policy, {folder.path})"
    if m.description:
        yield m.description
    yield ""
    yield f"good for    {m.max_age_s:g} s after the exposure"
    yield f"meant for   slow {m.rates.slow_hz:g} Hz, fast {m.rates.fast_hz:g} Hz"
    a = m.actions
    executed = f", {a.execution_rows} to execute" if a.execution_rows else ""
    yield (
        f"rows        {a.rows} of {a.columns} columns{executed}, {a.dt_s * 1000:.1f} ms apart, "
        f"first after {a.first_row_s * 1000:.1f} ms"
    )
    yield (
        f"columns     position {a.position} (3, m), {a.rotation_format} {a.rotation}, "
        f"gripper {a.gripper} {a.gripper_range_m[0]:g} to {a.gripper_range_m[1]:g} m; "
        f"anchor: {a.anchor}"
    )
    abilities = ", ".join(f"{k} {v}" for k, v in asdict(m.abilities).items())
    yield f"abilities   {abilities}"
    yield f"statistics  sha256 {m.normalisation_sha256}"
    if m.cache is not None:
        yield f"cache       cells of {m.cache.cell_px} px, halo of {m.cache.halo_cells}"
    for graph in m.all_graphs.values():
        yield ""
        yield f"graph {graph.name}  ({graph.file}, sha256 {graph.sha256[:16]}...)"
        yield from _table(
            [
                (side, t.name, t.dtype, _shape(t), f"{t.role.value}{_details(t)}")
                for side, tensors in (("in", graph.inputs), ("out", graph.outputs))
                for t in tensors
            ]
        )
    if m.files:
        yield ""
        yield "other files"
        yield from _table([("", name, f"sha256 {digest}") for name, digest in m.files.items()])


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield f"  {'  '.join(cells)}".rstrip()


def _shape(tensor: TensorSpec) -> str:
    steps = f", steps {list(tensor.steps)}" if tensor.steps else ""
    return f"{list(tensor.shape)}{steps}"


def _details(tensor: TensorSpec) -> str:
    match tensor.details:
        case ImageDetails() as d:
            return f" of {', '.join(d.cameras)}; {d.resize}, at most {d.max_age_s:g} s old"
        case InstructionDetails() as d:
            grammar = "" if d.grammar == "none" else f", sentences of {d.grammar}"
            return f" by {d.vocabulary} ({d.tokenizer}){grammar}"
        case StateDetails() as d:
            return f": {', '.join(d.fields)}"
        case NoiseDetails() as d:
            return f", drawn per {d.draw}"
        case LatentAgeDetails() as d:
            return f", told up to {d.told_up_to_s:g} s"
        case _:
            return f" from {tensor.source}" if tensor.source else ""
