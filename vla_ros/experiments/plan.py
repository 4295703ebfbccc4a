# SPDX-License-Identifier: Apache-2.0
"""The plan of an experiment, from its file: cells, arms, settings to choose from, seeds.

A file says everything before the first run: what is varied, what is compared, which settings a
baseline may choose from and on which seeds it chooses. See ``config/experiments``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_type_hints

import yaml

from vla_ros.errors import ConfigError
from vla_ros.share import known_settings, read_settings

Values = Mapping[str, Any]

SURROGATE, LEARNED = "surrogate", "learned"
BEST = "best"

_FIRST_SMOKE_SEED = 900_000
_FOLDER = "config/experiments"


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One place on the grid.

    Attributes:
        x: where it lies on the plot's axis.
        group: cells of a group share a panel.
        n: seeds; 0: as many as the experiment says.
    """

    name: str
    x: float
    group: str = ""
    n: int = 0
    values: Values = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One thing that is compared.

    Attributes:
        choices: settings that it may choose from, by its success on the choosing seeds.
        is_ours: compared with the best of the others.
        is_baseline: may be the best of the others.
        groups: only in cells of these groups; empty: in all.
    """

    name: str
    values: Values = field(default_factory=dict)
    choices: tuple[Values, ...] = ({},)
    is_ours: bool = False
    is_baseline: bool = True
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """A ratio of two means that the experiment is to find: ``arm`` in ``cell`` over another.

    Attributes:
        over_arm: another arm; ``best``: the baseline with the best metric in its cell.
        measure: whose means; empty: the metric.
        at_least, at_most: what is aimed at, if anything.
    """

    what: str
    arm: str
    cell: str
    over_arm: str
    over_cell: str
    at_least: float | None = None
    at_most: float | None = None
    measure: str = ""


@dataclass(frozen=True, kw_only=True)
class NotWorse:
    """A claim about success: ``arm`` in ``cell`` is at most ``margin_points`` below another.

    Attributes:
        over_arm: another arm; ``best``: the best baseline of its cell, as it came out.
    """

    what: str
    arm: str
    cell: str
    over_arm: str
    over_cell: str
    margin_points: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An experiment as its file says.

    Attributes:
        metric: column of the results that decides; ``success`` or a measure.
        larger_is_better: of the metric.
        axis: what x is.
        also: further measures to show as tables.
        ratios: of the metric, to be stated with their intervals.
        not_worse: claims about success, each with a margin.
        rig: what runs an episode: the rig with its surrogate policies, or exported policies on the
            table-top task.
        first_seed, n: seeds of the comparison; first_choice_seed, n_choice: those on which settings
            are chosen, apart from them.
    """

    name: str
    question: str
    axis: str
    metric: str
    larger_is_better: bool
    first_seed: int
    n: int
    first_choice_seed: int
    n_choice: int
    values: Values
    cells: tuple[Cell, ...]
    arms: tuple[Arm, ...]
    also: tuple[str, ...] = ()
    notes: str = ""
    ratios: tuple[Ratio, ...] = ()
    not_worse: tuple[NotWorse, ...] = ()
    rig: str = SURROGATE

    def cell(self, name: str) -> Cell:
        """Return a cell by name."""
        return next(c for c in self.cells if c.name == name)

    def arms_of(self, cell: Cell) -> Iterator[Arm]:
        """Return the arms that run in a cell."""
        for arm in self.arms:
            if not arm.groups or cell.group in arm.groups:
                yield arm

    def seeds(self, cell: Cell) -> range:
        """Return the seeds of the comparison."""
        return range(self.first_seed, self.first_seed + (cell.n or self.n))

    def choice_seeds(self) -> range:
        """Return the seeds on which settings are chosen."""
        return range(self.first_choice_seed, self.first_choice_seed + self.n_choice)

    def as_smoke(self, n: int) -> Plan:
        """Return the plan on ``n`` seeds that no experiment uses: does it work, how long is it?"""
        return replace(
            self,
            first_seed=_FIRST_SMOKE_SEED,
            n=n,
            first_choice_seed=_FIRST_SMOKE_SEED + n,
            n_choice=min(n, self.n_choice),
            cells=tuple(replace(cell, n=0) for cell in self.cells),
        )

    def case_values(self, cell: Cell, arm: Arm, choice: int) -> dict[str, Any]:
        """Return what a run is made of: the plan's values, the cell's, the arm's, its setting."""
        merged: dict[str, Any] = {}
        for layer in (self.values, cell.values, arm.values):
            _merge(merged, layer)
        if arm.choices[choice]:
            _merge(merged, {"settings": arm.choices[choice]})
        return merged


def known_plans() -> list[str]:
    """Return the names of the experiments that have a file."""
    return [name.replace("_", "-") for name in known_settings(_FOLDER)]


def load_plan(name: str) -> Plan:
    """Return the plan of an experiment.

    Raises:
        ConfigError: if there is no such file, or it says something that is not known.
    """
    path, text = read_settings(_FOLDER, "experiment", name.replace("-", "_"))
    return parse_plan(name, text, path.name)


def parse_plan(name: str, text: str, origin: str) -> Plan:
    """Return the plan that a text holds; ``origin`` names it in errors."""
    data = yaml.safe_load(text)
    if not isinstance(data, dict):
        raise ConfigError(f"{origin} must hold a mapping")
    try:
        cells = tuple(Cell(**cell) for cell in data.pop("cells"))
        arms = tuple(_arm(arm) for arm in data.pop("arms"))
        also = tuple(data.pop("also", ()))
        ratios = tuple(Ratio(**ratio) for ratio in data.pop("ratios", ()))
        claims = tuple(NotWorse(**claim) for claim in data.pop("not_worse", ()))
        plan = Plan(
            name=name, cells=cells, arms=arms, also=also, ratios=ratios, not_worse=claims, **data
        )
    except (TypeError, KeyError) as error:
        raise ConfigError(f"{origin}: {error}") from error
    for kind, names in (("cell", [c.name for c in cells]), ("arm", [a.name for a in arms])):
        if len(set(names)) != len(names):
            raise ConfigError(f"{origin}: two of a name among {kind}s {', '.join(names)}")
    if plan.rig not in (SURROGATE, LEARNED):
        raise ConfigError(f"{origin}: rig must be {SURROGATE} or {LEARNED}, got {plan.rig!r}")
    aims: tuple[Ratio | NotWorse, ...] = (*ratios, *claims)
    for aim in aims:
        for known, wanted in (
            ({c.name for c in cells}, (aim.cell, aim.over_cell)),
            ({a.name for a in arms} | {BEST}, (aim.arm, aim.over_arm)),
        ):
            if missing := set(wanted) - known:
                raise ConfigError(f"{origin}: {aim.what!r} names {missing.pop()!r}")
    if plan.choice_seeds().start < plan.first_seed + max(c.n or plan.n for c in cells) and (
        plan.choice_seeds().stop > plan.first_seed
    ):
        raise ConfigError(f"{origin}: settings must be chosen on other seeds than compared on")
    return plan


def _arm(data: Values) -> Arm:
    values = dict(data)
    values["choices"] = tuple(values.get("choices", ({},)))
    values["groups"] = tuple(values.get("groups", ()))
    return Arm(**values)


def _merge(into: dict[str, Any], layer: Values) -> None:
    for key, value in layer.items():
        if isinstance(value, Mapping) and isinstance(into.get(key), Mapping):
            nested = dict(into[key])
            _merge(nested, value)
            into[key] = nested
        else:
            into[key] = value


def build(kind: type[Any], values: Values, where: str = "") -> Any:
    """Return a dataclass of settings from plain values; nested ones from nested mappings.

    Raises:
        ConfigError: naming what is not known, or what is out of range.
    """
    hints = get_type_hints(kind)
    known = {f.name: f for f in dataclasses.fields(kind)}
    arguments: dict[str, Any] = {}
    for key, value in values.items():
        if key not in known:
            raise ConfigError(f"{where}{key} is not one of {', '.join(known)}")
        hint = hints[key]
        if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
            value = build(hint, value, f"{where}{key}.")  # type: ignore[arg-type]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            value = tuple(value)
        elif hint is float and isinstance(value, int):
            value = float(value)
        arguments[key] = value
    return kind(**arguments)
