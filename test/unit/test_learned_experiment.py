# SPDX-License-Identifier: Apache-2.0
"""Plans with exported policies: which arms can run, what a call costs. No MuJoCo, no ONNX."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from learning_samples import TINY
from strategy_samples import make_observation

from vla_ros import cli
from vla_ros.errors import ConfigError
from vla_ros.experiments.learned_case import LearnedCase
from vla_ros.experiments.learned_run import run_case
from vla_ros.experiments.metering import Meter
from vla_ros.experiments.plan import LEARNED, build, known_plans, load_plan
from vla_ros.experiments.policy_folders import available
from vla_ros.experiments.run import with_settings
from vla_ros.learning.manifest import write_manifest
from vla_ros.learning.split import FIRST_TRAINING_SEED
from vla_ros.learning.vocabulary import default_vocabulary
from vla_ros.policies.manifest.schema import Kind
from vla_ros.policies.timing import CallTiming

PLANS = [name for name in known_plans() if load_plan(name).rig == LEARNED]


def write_export(folder: Path, kind: Kind, graphs: tuple[str, ...], content: bytes = b"x") -> None:
    """Write an export whose graphs nobody runs."""
    folder.mkdir(parents=True)
    for name in graphs:
        (folder / f"{name}.onnx").write_bytes(content)
    (folder / "vocabulary.json").write_text(default_vocabulary().to_json(), "utf-8")
    write_manifest(folder, "tiny", Kind(kind), graphs, TINY, "for tests")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    write_export(tmp_path / "tiny", Kind.SPLIT, ("slow", "fast"))
    write_export(tmp_path / "tiny" / "monolithic", Kind.CHUNK, ("chunk",))
    return tmp_path / "tiny"


def test_there_are_plans_for_the_learned_policy() -> None:
    assert {"fast-slow", "learned-delay", "learned-variable", "learned-reaction"} == set(PLANS)


@pytest.mark.parametrize("name", PLANS)
def test_every_case_of_every_plan_makes_sense(name: str) -> None:
    plan = load_plan(name)
    for cell in plan.cells:
        for arm in plan.arms_of(cell):
            for choice in range(len(arm.choices)):
                values = plan.case_values(cell, arm, choice)
                settings = values.pop("settings", {})
                case = with_settings(build(LearnedCase, values), settings)
                assert case.delay.mean_ms >= 0.0
                assert case.timeout_s > 1e-3 * case.delay.mean_ms


@pytest.mark.parametrize("name", PLANS)
def test_arms_without_their_policy_are_left_out_by_name(name: str, models: Path) -> None:
    found = available(load_plan(name), models)
    kept = {arm.name for arm in found.plan.arms}
    assert {arm.name for arm in load_plan(name).arms} == kept | found.left_out.keys()
    assert any("split" in arm for arm in kept)
    assert not any("flow" in arm for arm in kept)
    for why in found.left_out.values():
        assert str(models) not in why  # results are published
    if "correction head (A2C2)" in found.left_out:
        assert "needs a correction head" in found.left_out["correction head (A2C2)"]
        assert "no policy folder" in found.left_out["RTC, flow policy"]


def test_runs_of_other_weights_are_void(models: Path, tmp_path: Path) -> None:
    found = available(load_plan("fast-slow"), models)
    split, one = "split, age told", "one graph, naive"
    assert found.models[split] != found.models[one]
    assert not found.is_void({"arm": split, "model": found.models[split]})
    assert found.is_void({"arm": split, "model": found.models[one]})
    assert found.is_void({"arm": split})
    write_export(tmp_path / "other", Kind.SPLIT, ("slow", "fast"), b"other weights")
    assert (
        available(load_plan("fast-slow"), tmp_path / "other").models[split] != found.models[split]
    )


def test_nothing_of_ours_to_run_is_an_error_that_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["experiment", "fast-slow", "--models", str(tmp_path / "none")]) != 0
    assert "there is no policy folder" in capsys.readouterr().err
    assert cli.main(["experiment", "fast-slow", "--models", str(tmp_path), "--plan"]) == 0


def test_training_seeds_are_refused(models: Path) -> None:
    with pytest.raises(ConfigError, match="belong to training"):
        run_case(LearnedCase(), models, FIRST_TRAINING_SEED)


def test_a_meter_counts_calls_and_graphs_but_not_the_drawing_of_images() -> None:
    clock = SimpleNamespace(now_ns=0)

    class Drawn(dict):  # type: ignore[type-arg]
        def values(self):  # type: ignore[no-untyped-def]
            clock.now_ns += 1000
            return super().values()

    policy = SimpleNamespace(last_timing=None)
    meter = Meter(lambda: clock.now_ns)
    observation = replace(make_observation(), frames=Drawn())
    for spent_ns, graph_ns in ((50, 30), (70, 40)):
        with meter.running(policy, observation):
            clock.now_ns += spent_ns
            policy.last_timing = CallTiming(compute_ns=graph_ns)
    assert meter.spent_ns == 120
    assert meter.graph_ns == 70
