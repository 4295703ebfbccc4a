# SPDX-License-Identifier: Apache-2.0
"""Plans of experiments: read, checked, made into cases; runs are kept and chosen from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError
from vla_ros.experiments.plan import build, known_plans, load_plan, parse_plan
from vla_ros.experiments.report import MEASURES, compare, summarise, write_report
from vla_ros.experiments.run import Results, choose

TEXT = """
question: Does it work?
axis: delay
metric: success
larger_is_better: true
first_seed: 0
n: 20
first_choice_seed: 1000
n_choice: 4
values: {scenario: {task: around, limit_s: 2.0}}
cells:
  - {name: near, x: 1, values: {scenario: {limit_s: 3.0}}}
  - {name: far, x: 2, group: other, n: 30}
arms:
  - name: old
    values: {strategy: naive}
    choices: [{execution_horizon: 4}, {execution_horizon: 8}]
  - {name: new, values: {strategy: timed}, is_ours: true}
  - {name: only far, groups: [other]}
"""


def plan_of(text: str = TEXT):  # type: ignore[no-untyped-def]
    return parse_plan("try", text, "try.yaml")


def rows(cell: str, arm: str, choice: int, outcomes: dict[int, int]) -> list[dict[str, str]]:
    measured = dict.fromkeys(MEASURES, "nan")
    return [
        {"cell": cell, "arm": arm, "choice": str(choice), "seed": str(s), "success": str(ok)}
        | measured
        for s, ok in outcomes.items()
    ]


def test_values_are_laid_over_each_other() -> None:
    plan = plan_of()
    near, far = plan.cells
    values = plan.case_values(near, plan.arms[0], 1)
    assert values == {
        "scenario": {"task": "around", "limit_s": 3.0},
        "strategy": "naive",
        "settings": {"execution_horizon": 8},
    }
    assert plan.case_values(far, plan.arms[1], 0)["scenario"]["limit_s"] == 2.0
    assert [a.name for a in plan.arms_of(near)] == ["old", "new"]
    assert [a.name for a in plan.arms_of(far)] == ["old", "new", "only far"]
    assert plan.seeds(far) == range(30)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("first_choice_seed: 1000", "first_choice_seed: 10", "other seeds"),
        ("name: far", "name: near", "two of a name"),
        ("axis: delay", "axes: delay", "axes"),
    ],
)
def test_a_plan_that_is_wrong_is_refused(old: str, new: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        plan_of(TEXT.replace(old, new))


def test_every_plan_of_the_project_is_read_and_keeps_seeds_apart() -> None:
    assert {"delay-sweep", "variable-latency", "seams"} <= set(known_plans())
    for name in known_plans():
        plan = load_plan(name)
        assert plan.question
        assert plan.choice_seeds().start >= plan.first_seed + plan.n
    with pytest.raises(ConfigError, match="delay_sweep"):
        load_plan("delays")


def test_runs_are_kept_and_found_again(tmp_path: Path) -> None:
    results = Results(tmp_path / "runs.csv")
    results.add(rows("near", "old", 0, {0: 1, 1: 0}))
    again = Results(tmp_path / "runs.csv")
    assert again.has("near", "old", 0, 1)
    assert not again.has("near", "old", 1, 1)
    assert [r["success"] for r in again.of("near", "old", 0, range(5))] == ["1", "0"]


def test_a_setting_is_chosen_on_its_own_seeds_alone(tmp_path: Path) -> None:
    plan = plan_of()
    results = Results(tmp_path / "runs.csv")
    results.add(rows("near", "old", 0, dict.fromkeys(range(20), 1)))  # these do not count
    results.add(rows("near", "old", 0, dict.fromkeys(range(1000, 1004), 0)))
    results.add(rows("near", "old", 1, dict.fromkeys(range(1000, 1004), 1)))
    assert choose(plan, results, plan.cells[0], plan.arms[0]) == 1


def test_the_report_compares_on_the_same_seeds(tmp_path: Path) -> None:
    plan = plan_of()
    results = Results(tmp_path / "runs.csv")
    results.add(rows("near", "old", 0, {s: int(s < 8) for s in range(20)}))
    results.add(rows("near", "new", 0, {s: int(s < 18) for s in range(20)}))
    chosen = {"near/old": 0, "near/new": 0}
    cells = plan.cells[:1]
    entries = summarise(plan, results, chosen, cells)
    (comparison,) = compare(plan, entries)
    assert comparison.best.arm.name == "old"
    assert comparison.difference.mean == pytest.approx(0.5)
    assert comparison.difference.low > 0.2
    text = write_report(plan, results, chosen, cells, tmp_path / "out")
    assert "90.0 (70 to 97)" in text
    assert "+50" in text
    assert {p.suffix for p in (tmp_path / "out").iterdir()} == {".csv", ".md", ".svg"}
    first = (tmp_path / "out" / "try.svg").read_bytes()
    write_report(plan, results, chosen, cells, tmp_path / "out")
    assert (tmp_path / "out" / "try.svg").read_bytes() == first


@dataclass(frozen=True, kw_only=True)
class Inner:
    size_m: float = setting(1.0, "size", unit="m", ge=0.0, le=2.0)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    values: tuple[float, ...] = ()


def test_settings_are_made_from_plain_values() -> None:
    assert build(Outer, {"inner": {"size_m": 2}, "values": [1.0, 2.0]}) == Outer(
        inner=Inner(size_m=2.0), values=(1.0, 2.0)
    )
    with pytest.raises(ConfigError, match=r"inner\.sise_m is not one of size_m"):
        build(Outer, {"inner": {"sise_m": 2}})
    with pytest.raises(ConfigError, match=r"0\.0 to 2\.0 m"):
        build(Outer, {"inner": {"size_m": 3.0}})


def test_ratios_are_stated_with_what_was_aimed_at(tmp_path: Path) -> None:
    asked = """
ratios:
  - {what: far kept, arm: new, cell: far, over_arm: new, over_cell: near, at_least: 0.9}
"""
    plan = plan_of(TEXT + asked)
    results = Results(tmp_path / "runs.csv")
    results.add(rows("near", "new", 0, dict.fromkeys(range(20), 1)))
    results.add(rows("far", "new", 0, {s: s % 2 for s in range(30)}))
    chosen = {f"{c.name}/{a.name}": 0 for c in plan.cells for a in plan.arms_of(c)}
    text = write_report(plan, results, chosen, plan.cells, tmp_path)
    assert "| far kept | 0.500 (" in text
    assert "at least 0.9" in text
    with pytest.raises(ConfigError, match="names 'nowhere'"):
        plan_of(TEXT + asked.replace("cell: far", "cell: nowhere", 1))


CLAIMS = """
not_worse:
  - {what: as good, arm: new, cell: near, over_arm: best, over_cell: near, margin_points: 3.0}
  - {what: nearly, arm: new, cell: far, over_arm: old, over_cell: near, margin_points: 3.0}
  - {what: by far, arm: only far, cell: far, over_arm: new, over_cell: near, margin_points: 3.0}
"""


def test_claims_are_met_by_the_lower_end_of_the_interval_alone(tmp_path: Path) -> None:
    plan = plan_of(TEXT + CLAIMS)
    results = Results(tmp_path / "runs.csv")
    results.add(rows("near", "old", 0, dict.fromkeys(range(20), 1)))
    results.add(rows("near", "new", 0, dict.fromkeys(range(20), 1)))
    results.add(rows("far", "new", 0, {s: int(s not in (3, 4)) for s in range(20)}))
    results.add(rows("far", "new", 0, {s: 1 for s in range(20, 30)}))
    results.add(rows("far", "only far", 0, {s: int(s > 10) for s in range(30)}))
    chosen = {f"{c.name}/{a.name}": 0 for c in plan.cells for a in plan.arms_of(c)}
    text = write_report(plan, results, chosen, plan.cells, tmp_path)
    assert "| as good | old | 20 | +0.0 (+0.0 to +0.0) | at least -3: met |" in text
    assert "at least -3: not met |" in text.split("| by far")[1]
    wider = plan_of(TEXT + CLAIMS.replace("margin_points: 3.0", "margin_points: 12.0"))
    text = write_report(wider, results, chosen, plan.cells, tmp_path)
    assert "at least -12: not shown |" in text.split("| nearly")[1]
    with pytest.raises(ConfigError, match="nobody"):
        plan_of(TEXT + CLAIMS.replace("over_arm: best", "over_arm: nobody"))


def test_a_ratio_can_be_of_another_measure_and_over_the_best_baseline(tmp_path: Path) -> None:
    asked = """
ratios:
  - {what: chunks, arm: new, cell: near, over_arm: best, over_cell: near, measure: chunk_hz}
  - {what: successes, arm: new, cell: near, over_arm: old, over_cell: near}
"""
    plan = plan_of(TEXT + asked)
    results = Results(tmp_path / "runs.csv")
    for arm, hz in (("old", "10"), ("new", "30")):
        results.add(
            [r | {"chunk_hz": hz} for r in rows("near", arm, 0, dict.fromkeys(range(9), 1))]
        )
    chosen = {"near/old": 0, "near/new": 0}
    text = write_report(plan, results, chosen, plan.cells[:1], tmp_path)
    assert "| chunks (old): `chunk_hz` | 3.000 (3.000 to 3.000) |" in text
    assert "| successes: `success` | 1.000 (" in text


def test_who_is_left_out_is_named_in_the_report(tmp_path: Path) -> None:
    plan = plan_of()
    results = Results(tmp_path / "runs.csv")
    results.add(rows("near", "new", 0, {0: 1, 1: 0}))
    chosen = {"near/old": 0, "near/new": 0}
    why = {"only far": "there is no policy folder flow"}
    text = write_report(plan, results, chosen, plan.cells[:1], tmp_path, why)
    assert "- Left out: only far. there is no policy folder flow." in text


def test_runs_of_other_weights_do_not_count_and_more_columns_find_room(tmp_path: Path) -> None:
    path = tmp_path / "runs.csv"
    results = Results(path)
    results.add(rows("near", "old", 0, {0: 1, 1: 1}))
    assert results.forget(lambda r: r.get("model") != "b") == 2
    assert not results.has("near", "old", 0, 0)
    results.add([r | {"model": "b"} for r in rows("near", "old", 0, {0: 0})])
    again = Results(path)
    assert len(again.rows) == 3
    assert again.forget(lambda r: r.get("model") != "b") == 2
    assert [r["success"] for r in again.of("near", "old", 0, range(2))] == ["0"]


def test_a_smoke_run_uses_seeds_of_its_own() -> None:
    plan = plan_of().as_smoke(2)
    assert plan.seeds(plan.cells[1]) == range(900_000, 900_002)
    assert plan.choice_seeds() == range(900_002, 900_004)
