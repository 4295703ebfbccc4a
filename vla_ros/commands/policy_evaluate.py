# SPDX-License-Identifier: Apache-2.0
"""``vla-ros policy evaluate``: success in virtual time, cell by cell, on the same seeds."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

from vla_ros.commands.options import add_options, read_options
from vla_ros.commands.output import say
from vla_ros.commands.progress import ProgressLine
from vla_ros.config_fields import check_fields, setting
from vla_ros.experiments.run import Results, Row
from vla_ros.learning.evaluation import (
    ALL,
    CACHE,
    EvaluationCell,
    chance,
    choose_cells,
    summarise,
    to_markdown,
)
from vla_ros.learning.split import check_evaluation_seed
from vla_ros.policies.features.cache import CacheCount
from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.manifest.schema import Kind
from vla_ros.policies.onnx.cached_slow import CachedOnnxSlowPolicy
from vla_ros.policies.onnx.chunk import OnnxChunkPolicy
from vla_ros.policies.onnx.contract import capabilities_of
from vla_ros.policies.onnx.load import load_fast, load_slow
from vla_ros.policies.onnx.providers import CPU, SessionSettings
from vla_ros.policies.onnx.session import PolicyRuntime
from vla_ros.policies.registry import (
    CLASSICAL,
    DEFAULT_POLICY,
    EXPORTED,
    SHIPPED,
    policy_folder,
    verify_policy,
)

if TYPE_CHECKING:
    from vla_ros.policies.base import ChunkPolicy, FastPolicy, SlowPolicy
    from vla_ros.types import CameraFrame

_BATCH = 10


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What is evaluated."""

    policy: str = setting(
        DEFAULT_POLICY, f"folder of an export, {', '.join(SHIPPED)}, or {CLASSICAL}"
    )
    cells: str = setting(
        ALL, f"names of cells, comma separated; {ALL}: every policy's, {CACHE}: those of a cache"
    )
    first_seed: int = setting(0, "first seed", ge=0, le=10**9)
    seeds: int = setting(500, "number of seeds, the same for every cell", ge=1, le=10**6)
    jobs: int = setting(2, "processes", ge=1, le=256)
    camera_hz: float = setting(10.0, "camera rate", unit="Hz", ge=1.0, le=60.0)
    max_duration_s: float = setting(15.0, "given up after", unit="s", ge=1.0, le=600.0)
    csv: str = setting(
        "runs/evaluate/pick-place.csv", "file of one line per episode, to go on from"
    )

    def __post_init__(self) -> None:
        check_fields(self)
        for seed in (self.first_seed, self.first_seed + self.seeds - 1):
            check_evaluation_seed(seed)

    @property
    def folder(self) -> Path | None:
        """The folder of the export; None for the classical policy."""
        return None if self.policy == CLASSICAL else policy_folder(self.policy) or Path(self.policy)

    @property
    def arm(self) -> str:
        """What the policy is called in the results: the name of its folder."""
        return CLASSICAL if self.folder is None else self.folder.resolve().name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_options(parser.add_argument_group("what to evaluate"), EvaluateOptions)


def run(namespace: argparse.Namespace) -> int:
    """Run what is missing and show all of it."""
    options = read_options(namespace, EvaluateOptions)
    manifest = None
    if options.folder is not None:
        verify_policy(f"{EXPORTED}{options.folder}")
        manifest = open_policy(options.folder).manifest
    cells = choose_cells(
        options.cells,
        # What a policy in one piece can do; a split or classical one serves all cells.
        capabilities_of(manifest) if manifest and manifest.kind is Kind.CHUNK else None,
        has_cache=manifest is not None and manifest.cache is not None,
    )
    results = Results(Path(options.csv))
    seeds = range(options.first_seed, options.first_seed + options.seeds)
    arm = options.arm
    jobs = [
        (cell, batch)
        for cell in cells
        for batch in _batches([s for s in seeds if not results.has(cell.name, arm, 0, s)])
    ]
    missing = sum(len(batch) for _, batch in jobs)
    progress = ProgressLine(len(cells) * len(seeds), "episodes", len(cells) * len(seeds) - missing)
    # spawn: a forked child would share the parent's OpenGL state.
    with ProcessPoolExecutor(options.jobs, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(run_episodes, options, cell, batch) for cell, batch in jobs]
        try:
            for future in as_completed(waiting):
                results.add(future.result())
                progress.add(len(future.result()))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    say(to_markdown(summarise([r for r in results.rows if r["arm"] == arm])))
    for cell in cells:
        if cell.is_scrambled:
            say(f"{cell.name}: {100 * chance(cell, seeds):.1f} % are told the right goal by chance")
        if cell.cache is not None:
            ratios = [float(r["feature_reuse_ratio"]) for r in results.of(cell.name, arm, 0, seeds)]
            say(f"{cell.name}: {100 * sum(ratios) / len(ratios):.0f} % of the cells not computed")
    return 0


def run_episodes(options: EvaluateOptions, cell: EvaluationCell, seeds: Sequence[int]) -> list[Row]:
    """Run some seeds of a cell in this process."""
    # Imported here: the parent needs neither MuJoCo nor OpenGL.
    from vla_ros.sim.events import JUMP, NONE, EventConfig
    from vla_ros.sim.lockstep import LockstepConfig, LockstepRunner

    slow: SlowPolicy | None = None
    fast: FastPolicy | None = None
    whole: ChunkPolicy | None = None
    # On the CPU with one thread each, so that results do not depend on the machine's devices.
    runtime = PolicyRuntime(
        session=SessionSettings(provider=CPU, threads=1),
        cache=cell.cache,
    )
    if options.folder is not None and cell.joined_by:
        whole = OnnxChunkPolicy(open_policy(options.folder), runtime)
    elif options.folder is not None:
        slow = load_slow(options.folder, runtime)
        fast = load_fast(options.folder, runtime, tells_age=cell.tells_age)
    config = LockstepConfig(
        camera_hz=options.camera_hz,
        slow_latency_ms=cell.slow_latency_ms,
        max_duration_s=options.max_duration_s,
        event=EventConfig(kind=JUMP if cell.is_moved else NONE),
    )
    rows = []
    for seed in seeds:
        # A new one each time: filters that remember the episode before would make the result
        # depend on where a call was interrupted.
        runner = LockstepRunner(
            config,
            slow_policy=slow,
            fast_policy=fast,
            filter_frames=blank if cell.is_blank else None,
            cameras=("scene_camera", "wrist_camera"),
            strategy=cell.strategy,
            whole=cell.is_naive,
            policy=whole,
        )
        goal = cell.judged_goal(seed)
        if isinstance(slow, CachedOnnxSlowPolicy):
            slow.total = CacheCount()
        with closing(runner):
            result = runner.run(seed, cell.told_goal(seed).text, goal.text)
        row = {"cell": cell.name, "arm": options.arm, "choice": 0}
        row |= {"goal": goal.text} | dataclasses.asdict(result)
        if isinstance(slow, CachedOnnxSlowPolicy):
            row["feature_reuse_ratio"] = slow.total.reuse_ratio
        rows.append({name: str(value) for name, value in row.items()})
    return rows


def blank(frames: dict[str, CameraFrame]) -> dict[str, CameraFrame]:
    """Return black images."""
    return {
        name: dataclasses.replace(
            frame,
            rgb=0 * frame.rgb,
            depth_m=None if frame.depth_m is None else 0 * frame.depth_m,
        )
        for name, frame in frames.items()
    }


def _batches(seeds: Sequence[int]) -> list[Sequence[int]]:
    return [seeds[i : i + _BATCH] for i in range(0, len(seeds), _BATCH)]
