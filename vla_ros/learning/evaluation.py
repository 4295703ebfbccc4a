# SPDX-License-Identifier: Apache-2.0
"""What is evaluated: cells of conditions on the same seeds, and what came out, with intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from vla_ros.chunking.strategies.base import PolicyCapabilities
from vla_ros.chunking.strategies.registry import negotiate
from vla_ros.errors import ConfigError
from vla_ros.learning.split import check_evaluation_seed, evaluation_goal
from vla_ros.policies.features.cache import FeatureCacheConfig
from vla_ros.policies.instruction import ALL_GOALS, PickPlaceGoal
from vla_ros.report.statistics import bootstrap_interval, paired_difference

REFERENCE, WHOLE_REFERENCE, MOVED_REFERENCE = "seen-0ms", "synchronous-0ms", "moved-0ms"
ALL, CACHE = "all", "cache"
_SCRAMBLE_STREAM = 13
_NAIVE = "naive_from_zero"


@dataclass(frozen=True, kw_only=True)
class EvaluationCell:
    """Conditions under which every seed is run.

    Attributes:
        name: of the cell.
        slow_latency_ms: from an exposure to the latent.
        held_out: goals whose words were never trained together.
        is_blank: all images are black.
        is_scrambled: the policy is told any goal, drawn without regard to the one judged.
        tells_age: whether the fast half is told how old its latent is; None: up to the age that
            its manifest says.
        is_naive: both halves as one policy, executed as it comes: from its first row, whenever.
        joined_by: strategy for a policy in one piece; empty: the policy is split.
        cache: when the slow half may reuse what it made of earlier images; None: never.
        is_moved: on the arm's way the cube is carried elsewhere.
        reference: the cell that it is compared with, seed by seed.
    """

    name: str
    slow_latency_ms: float = 0.0
    held_out: bool = False
    is_blank: bool = False
    is_scrambled: bool = False
    tells_age: bool | None = None
    is_naive: bool = False
    joined_by: str = ""
    cache: FeatureCacheConfig | None = None
    is_moved: bool = False
    reference: str = REFERENCE

    @property
    def strategy(self) -> str:
        """How chunks are joined."""
        if self.joined_by:
            return self.joined_by
        return _NAIVE if self.is_naive else "timed"

    def judged_goal(self, seed: int) -> PickPlaceGoal:
        """Return the goal that decides success."""
        check_evaluation_seed(seed)
        return evaluation_goal(seed, held_out=self.held_out)

    def told_goal(self, seed: int) -> PickPlaceGoal:
        """Return the goal that the policy is told."""
        if not self.is_scrambled:
            return self.judged_goal(seed)
        random = np.random.default_rng([seed, _SCRAMBLE_STREAM])
        return ALL_GOALS[int(random.integers(len(ALL_GOALS)))]


CELLS = (
    EvaluationCell(name=REFERENCE),
    EvaluationCell(name="held-out-0ms", held_out=True),
    EvaluationCell(name="seen-500ms", slow_latency_ms=500.0),
    EvaluationCell(name="seen-2000ms", slow_latency_ms=2000.0),
    EvaluationCell(name="no-age-500ms", slow_latency_ms=500.0, tells_age=False),
    EvaluationCell(name="no-age-2000ms", slow_latency_ms=2000.0, tells_age=False),
    EvaluationCell(name="every-age-500ms", slow_latency_ms=500.0, tells_age=True),
    EvaluationCell(name="every-age-2000ms", slow_latency_ms=2000.0, tells_age=True),
    EvaluationCell(name="naive-500ms", slow_latency_ms=500.0, is_naive=True),
    EvaluationCell(name="naive-2000ms", slow_latency_ms=2000.0, is_naive=True),
    EvaluationCell(name="blank-0ms", is_blank=True),
    EvaluationCell(name="scrambled-0ms", is_scrambled=True),
)


# The slow half with its cache, on its own and when the cube is moved; as control one that computes
# the first image and reuses it for ever.
_BLIND = FeatureCacheConfig(min_reuse_ratio=1.0, max_reuses=100_000)
CACHE_CELLS = (
    EvaluationCell(name="cached-0ms", cache=FeatureCacheConfig()),
    EvaluationCell(name="reuse-all-0ms", cache=_BLIND),
    EvaluationCell(name=MOVED_REFERENCE, is_moved=True, reference=MOVED_REFERENCE),
    EvaluationCell(
        name="cached-moved-0ms",
        cache=FeatureCacheConfig(),
        is_moved=True,
        reference=MOVED_REFERENCE,
    ),
    EvaluationCell(
        name="reuse-all-moved-0ms", cache=_BLIND, is_moved=True, reference=MOVED_REFERENCE
    ),
)

# Of a policy in one piece: the same delay for every strategy, within the longest prefix.
WHOLE_CELLS = (
    EvaluationCell(name=WHOLE_REFERENCE, joined_by="synchronous", reference=WHOLE_REFERENCE),
    *(
        EvaluationCell(
            name=f"{name}-200ms",
            slow_latency_ms=200.0,
            joined_by=name,
            reference=WHOLE_REFERENCE,
        )
        for name in ("synchronous", "naive", "rtc_identity", "rtc_vjp", "rtc_trained", "consensus")
    ),
)


def choose_cells(
    names: str, able: PolicyCapabilities | None = None, *, has_cache: bool = False
) -> tuple[EvaluationCell, ...]:
    """Return the cells of a comma-separated list, in which names may stand for groups.

    Args:
        names: the list; "all": the cells of every policy, "cache": those about its cache.
        able: of a policy in one piece, which has cells of its own; "all": those it can serve.
        has_cache: the policy can be run with a cache.

    Raises:
        ConfigError: if there is none of a name, or the policy lacks what it needs.
    """
    cells: tuple[EvaluationCell, ...] = CELLS
    extra: tuple[EvaluationCell, ...] = CACHE_CELLS
    if able is not None:
        cells = tuple(c for c in WHOLE_CELLS if negotiate(able, c.strategy)[0] == c.strategy)
        extra = ()
    groups = {ALL: cells, CACHE: extra} if extra else {ALL: cells}
    known = {cell.name: (cell,) for cell in cells + extra} | groups
    chosen: dict[str, EvaluationCell] = {}
    for name in names.split(","):
        if name not in known:
            raise ConfigError(f"cells are {', '.join(known)}, got {name!r}")
        chosen |= {cell.name: cell for cell in known[name]}
    for cell in chosen.values():
        if cell.cache is not None and not has_cache:
            raise ConfigError(f"cell {cell.name} needs an export with a cache in its manifest")
    return tuple(chosen.values())


def chance(cell: EvaluationCell, seeds: Sequence[int]) -> float:
    """Return the share of seeds at which a scrambled instruction says the right thing."""
    return float(np.mean([cell.told_goal(s) == cell.judged_goal(s) for s in seeds]))


@dataclass(frozen=True, kw_only=True)
class CellSummary:
    """What came of a cell: success rate and paired difference to the reference, 95 % intervals."""

    name: str
    reference: str
    n: int
    successes: int
    rate: float
    low: float
    high: float
    difference: float
    difference_low: float
    difference_high: float
    median_duration_s: float


def summarise(rows: Sequence[Mapping[str, str]]) -> list[CellSummary]:
    """Return one summary per cell that occurs, in the order of the cells here."""
    by_cell: dict[str, dict[int, Mapping[str, str]]] = {}
    for row in rows:
        by_cell.setdefault(row["cell"], {})[int(row["seed"])] = row
    known = [c for c in (*CELLS, *CACHE_CELLS, *WHOLE_CELLS) if c.name in by_cell]
    return [_summarise(c, by_cell[c.name], by_cell.get(c.reference, {})) for c in known]


def _summarise(
    cell: EvaluationCell,
    rows: Mapping[int, Mapping[str, str]],
    reference: Mapping[int, Mapping[str, str]],
) -> CellSummary:
    won = {seed: float(row["success"] == "True") for seed, row in rows.items()}
    interval = bootstrap_interval(list(won.values()))
    both = [seed for seed in sorted(won) if seed in reference]
    difference = (float("nan"),) * 3
    if both:
        paired = paired_difference(
            [won[seed] for seed in both],
            [float(reference[seed]["success"] == "True") for seed in both],
        )
        difference = (paired.mean, paired.low, paired.high)
    durations = [float(row["duration_s"]) for seed, row in rows.items() if won[seed]]
    return CellSummary(
        name=cell.name,
        reference=cell.reference,
        n=len(won),
        successes=int(sum(won.values())),
        rate=interval.mean,
        low=interval.low,
        high=interval.high,
        difference=difference[0],
        difference_low=difference[1],
        difference_high=difference[2],
        median_duration_s=float(np.median(durations)) if durations else float("nan"),
    )


def to_markdown(summaries: Sequence[CellSummary]) -> str:
    """Return the summaries as a table."""
    reference = summaries[0].reference if summaries else REFERENCE
    lines = [
        f"| cell | n | success | 95 % interval | against {reference}, paired | median time |",
        "|---|---|---|---|---|---|",
    ]
    for s in summaries:
        against = f"{_points(s.difference)} ({_points(s.difference_low)} to "
        against += f"{_points(s.difference_high)})"
        if s.reference != reference:
            against += f" against {s.reference}"
        lines.append(
            f"| {s.name} | {s.n} | {100 * s.rate:.1f} % | {100 * s.low:.1f} to "
            f"{100 * s.high:.1f} % | {'' if s.name == s.reference else against} | "
            f"{_duration(s.median_duration_s)} |"
        )
    return "\n".join(lines)


def _duration(median_s: float) -> str:
    return "" if np.isnan(median_s) else f"{median_s:.1f} s"


def _points(share: float) -> str:
    return f"{100 * share:+.1f}"
