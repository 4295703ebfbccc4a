# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from vla_ros.bringup import (
    OPTIONAL_NODES,
    RESIDUALS,
    BringupConfig,
    NodeSpec,
    default_run_folder,
    nodes_for,
)
from vla_ros.errors import ConfigError
from vla_ros.share import find_shared
from vla_ros.sim.prepare import SceneFiles

ROOT = Path(__file__).resolve().parents[2]
SCENE = SceneFiles(Path("/run/scene.mjb"), Path("/run/scene.json"))


def nodes(**settings: Any) -> dict[str, NodeSpec]:
    config = BringupConfig(**({"policy": "classical"} | settings))
    return {spec.name: spec for spec in nodes_for(config, SCENE)}


def test_every_declared_node_is_in_the_list_and_the_reverse() -> None:
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    known = {*nodes(residual="node"), *OPTIONAL_NODES}
    assert known == set(re.findall(r'^    "(\w+_node)",$', setup, flags=re.MULTILINE))


def test_control_node_comes_first_has_the_processor_first_and_is_never_restarted() -> None:
    listed = list(nodes().values())
    assert listed[0].name == "control_node"
    assert not listed[0].respawn
    assert all(listed[0].nice < other.nice for other in listed[1:])
    assert all(other.respawn for other in listed[1:])


@pytest.mark.parametrize(
    ("setting", "name"), [("record", "recorder_node"), ("viewer", "viewer_node")]
)
def test_optional_nodes_can_be_left_out(setting: str, name: str) -> None:
    everything = set(nodes())
    assert everything - set(nodes(**{setting: False})) == {name}


def test_all_nodes_meet_in_the_same_shared_memory() -> None:
    prefixes = {
        spec.parameters["shm_prefix"]
        for spec in nodes(shm_prefix="vla_ros.d7.fr3").values()
        if "shm_prefix" in spec.parameters
    }
    assert prefixes == {"vla_ros.d7.fr3"}


def test_latency_settings_reach_the_slow_node() -> None:
    parameters = nodes(slow_latency_ms=250.0, slow_mode="busy", busy_threads=2)[
        "vla_node"
    ].parameters
    assert parameters["slow_latency_ms"] == 250.0
    assert parameters["slow_mode"] == "busy"
    assert parameters["busy_threads"] == 2


def test_hooks_are_off_unless_somebody_corrects_the_policy() -> None:
    listed = {who: nodes(residual=who) for who in RESIDUALS}
    assert "residual" not in listed["none"]["executor_node"].parameters
    for who in ("topic", "node"):
        assert listed[who]["executor_node"].parameters["residual"] is True
    assert set(listed["topic"]) == set(listed["none"])
    assert set(listed["node"]) - set(listed["none"]) == {"residual_node"}


def test_a_cache_is_asked_of_the_slow_half_alone_and_of_a_policy_that_has_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match="'classical' has no cache: only exports have one"):
        BringupConfig(policy="classical", policy_cache=True)
    with pytest.raises(ConfigError, match="vla-ros policy serve --cache"):
        BringupConfig(policy="remote:unix:/tmp/policy", policy_cache=True)
    monkeypatch.setattr("vla_ros.bringup.demand_cache", lambda name: None)
    listed = nodes(policy_cache=True)
    assert listed["vla_node"].parameters["policy_cache"] is True
    assert "policy_cache" not in listed["executor_node"].parameters
    assert nodes()["vla_node"].parameters["policy_cache"] is False


def test_settings_of_a_robot_file_reach_the_control_node(tmp_path: Path) -> None:
    path = tmp_path / "soft.yaml"
    text = find_shared("config/robots/fr3.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("control: {}", "control: {stiffness_trans: 400.0}"), "utf-8")
    assert nodes(robot=str(path))["control_node"].parameters["stiffness_trans"] == 400.0
    assert nodes()["control_node"].parameters["stiffness_trans"] != 400.0


def test_robot_that_cannot_be_simulated_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.yaml"
    text = find_shared("config/robots/fr3.yaml").read_text(encoding="utf-8")
    path.write_text(text.replace("fr3_joint1", "other_joint1"), "utf-8")
    with pytest.raises(ConfigError, match="only the joints of fr3 can be simulated"):
        BringupConfig(robot=str(path), policy="classical")


def test_scene_files_reach_those_who_simulate() -> None:
    listed = nodes()
    for name in ("control_node", "camera_node"):
        assert listed[name].parameters["scene_model"] == "/run/scene.mjb"
    assert listed["control_node"].parameters["scene_info"] == "/run/scene.json"


def test_slow_half_never_sees_the_truth_of_the_simulation() -> None:
    assert not any("scene" in name for name in nodes()["vla_node"].parameters)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("robot", "ur5", "unknown robot 'ur5'; known: fr3"),
        ("policy", "magic", "policy must be one of pick-place, classical, onnx:.*, got 'magic'"),
        ("policy", "onnx:/nowhere", "there is no /nowhere/manifest.yaml"),
        ("policy_provider", "tpu", "policy_provider must be one of auto, tensorrt, cuda, cpu"),
        ("slow_latency_ms", -1.0, r"slow_latency_ms must be 0\.0 to 20000\.0 ms, got -1\.0 ms"),
        ("slow_latency_ms", float("nan"), "slow_latency_ms must be"),
        ("residual", "mine", "residual must be one of none, topic, node, got 'mine'"),
        ("slow_mode", "lazy", "slow_mode must be one of idle, busy, got 'lazy'"),
        ("busy_threads", 65, "busy_threads must be 1 to 64, got 65"),
        ("priority", "high", "priority must be one of auto, fifo, normal, got 'high'"),
        ("port", 80, "port must be 1024 to 65535, got 80"),
        ("record", "yes", "record must be bool, got str 'yes'"),
    ],
)
def test_setting_out_of_range_is_refused_by_name_value_and_range(
    setting: str, value: object, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        BringupConfig(**({"policy": "classical"} | {setting: value}))  # type: ignore[arg-type]


def test_two_runs_of_the_same_second_get_folders_of_their_own(tmp_path: Path) -> None:
    seen = set()
    for _ in range(3):
        folder = default_run_folder(tmp_path, "2026-01-01T00-00-00Z")
        folder.mkdir()
        seen.add(folder.name)
    assert len(seen) == 3


def test_bare_arm_gets_a_control_host_and_a_supervisor_with_its_own_settings() -> None:
    config = BringupConfig(robot="ur5e", scene="none")
    listed = nodes_for(config, SceneFiles(Path("/run/ur5e.mjb"), None))
    assert [spec.name for spec in listed] == ["control_node", "supervisor_node"]
    parameters = listed[0].parameters
    assert (parameters["robot"], parameters["scene_info"]) == ("ur5e", "")
    assert parameters["rate_hz"] == 500.0
    with pytest.raises(ConfigError, match="any other robot needs scene none"):
        BringupConfig(robot="ur5e", policy="classical")
