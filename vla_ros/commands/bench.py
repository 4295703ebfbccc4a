# SPDX-License-Identifier: Apache-2.0
"""``vla-ros bench``: speed, always beside an alternative in the same run."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType

from vla_ros.bench.build import load_law_bench
from vla_ros.bench.cached_trunk import measure_cached_trunk
from vla_ros.bench.data import measure_recording
from vla_ros.bench.feature_cache import measure_feature_cache
from vla_ros.bench.handover import measure_handovers
from vla_ros.bench.law import N_TICKS, measure_law
from vla_ros.bench.loop import PRIORITIES, measure_loop, plot_loop
from vla_ros.bench.measurement import Measurement
from vla_ros.bench.policy_composition import measure_composition
from vla_ros.bench.policy_hooks import measure_policy_hooks
from vla_ros.bench.policy_transport import measure_transport
from vla_ros.bench.torch_policy import measure_torch, why_not
from vla_ros.commands.options import add_options, read_options
from vla_ros.commands.output import say
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError
from vla_ros.policies.manifest.files import MANIFEST, open_policy
from vla_ros.policies.onnx.providers import CPU, SessionSettings
from vla_ros.sim.plant import fr3_arm


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What to measure."""

    repeats: int = setting(2000, "repetitions of the short measurements", ge=10, le=10**6)
    ticks: int = setting(N_TICKS, "ticks of the law", ge=200, le=10**7)
    out: str = setting("bench/latest.json", "file for the results")
    ros: bool = setting(True, "measure the alternatives that need ROS")
    policy: str = setting(
        "models/pick-place", "export that is timed beside PyTorch, where that is installed"
    )
    checkpoint: str = setting(
        "runs/train/checkpoint.npz",
        "what it was exported from; where it is missing, weights are drawn at random",
    )
    law_only: bool = setting(False, "measure the control law and nothing else")
    loop_s: int = setting(
        0,
        "run only the loop at 1 kHz, this long for each priority; 0: not",
        unit="s",
        ge=0,
        le=3600,
    )
    priorities: str = setting(",".join(PRIORITIES), "of the loop, comma separated")
    plot: str = setting("docs/results/loop.svg", "file for the histograms of the loop")

    def __post_init__(self) -> None:
        check_fields(self)
        wrong = [p for p in self.priorities.split(",") if p not in PRIORITIES]
        if wrong:
            raise ConfigError(f"priorities must be among {', '.join(PRIORITIES)}, got {wrong[0]!r}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_options(parser.add_argument_group("what to measure"), BenchOptions)


def run(namespace: argparse.Namespace) -> int:
    """Measure everything and write the file."""
    options = read_options(namespace, BenchOptions)
    law_bench = load_law_bench()
    if options.loop_s > 0:
        return _run_loop(law_bench, options)
    results = measure_law(law_bench, fr3_arm(), options.ticks)
    if not options.law_only:
        if options.ros:
            results += measure_handovers(options.repeats)
        results.append(measure_recording())
        results += measure_feature_cache(options.repeats)
        results += measure_policy_hooks(options.repeats)
        results += measure_composition(options.repeats)
        results += measure_transport(options.repeats, options.ros)
        policy, checkpoint = Path(options.policy), Path(options.checkpoint)
        lacks = why_not()
        if lacks:
            say(f"policy.*_onnx_vs_torch: skipped, {lacks}")
        else:
            has_both = (policy / MANIFEST).is_file() and checkpoint.is_file()
            export = (policy, checkpoint) if has_both else (None, None)
            results += measure_torch(options.repeats, *export)
        results += _measure_cache(policy, options.repeats)
    path = Path(options.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n", encoding="utf-8")
    for r in results:
        say(r.text())
    say(f"written to {path}")
    return 0


def _measure_cache(path: Path, repeats: int) -> list[Measurement]:
    """Time the cache of an export, where there is one."""
    try:
        policy = open_policy(path)
        policy.manifest.demand_cache()
    except ConfigError as error:
        say(f"policy.cached_trunk_*: skipped, {error}")
        return []
    return measure_cached_trunk(policy, SessionSettings(provider=CPU, threads=1), repeats)


def _run_loop(law_bench: ModuleType, options: BenchOptions) -> int:
    priorities = tuple(options.priorities.split(","))
    results = measure_loop(law_bench, fr3_arm(), options.loop_s, priorities)
    text = "\n\n".join(result.text() for result in results)
    plot = Path(options.plot)
    plot_loop(results, plot)
    plot.with_suffix(".txt").write_text(text + "\n", encoding="utf-8")
    say(text)
    say(f"written to {plot} and {plot.with_suffix('.txt')}")
    return 0
