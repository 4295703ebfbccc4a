# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from vla_ros.control.config import ControlConfig
from vla_ros.control.host import to_law_config
from vla_ros.embodiment.arm import arm_of
from vla_ros.embodiment.model_files import find_in_wheel, find_urdf
from vla_ros.embodiment.robot import known_robots, load_robot, parse_robot
from vla_ros.embodiment.robot_parts import ModelSource
from vla_ros.errors import ConfigError
from vla_ros.share import find_shared
from vla_ros.sim import plant

FR3 = find_shared("config/robots/fr3.yaml").read_text(encoding="utf-8")


def changed(**changes: Any) -> str:
    data = yaml.safe_load(FR3)
    for key, value in changes.items():
        target, *rest = key.split("__")
        if rest:
            data[target][rest[0]] = value
        else:
            data[target] = value
    return yaml.safe_dump(data)


@pytest.mark.parametrize("name", known_robots())
def test_every_robot_file_loads_under_its_own_name(name: str) -> None:
    assert load_robot(name).name == name


@pytest.mark.parametrize("name", known_robots())
def test_robot_file_only_overrides_what_differs_from_the_default(name: str) -> None:
    text = find_shared(f"config/robots/{name}.yaml").read_text(encoding="utf-8")
    for key, value in yaml.safe_load(text)["control"].items():
        assert getattr(ControlConfig(), key) != value, key


def test_fr3_has_the_limits_of_its_documentation() -> None:
    fr3 = load_robot("fr3")
    assert fr3.limits.tau_max_nm == (87.0,) * 4 + (12.0,) * 3
    assert fr3.limits.q_max_rad[3] == -0.1518
    assert fr3.limits.dq_max_rad_s == (2.62, 2.62, 2.62, 2.62, 5.26, 4.18, 5.26)
    assert (fr3.base_frame, fr3.ee_frame) == ("fr3_link0", "fr3_hand_tcp")
    assert fr3.gripper.max_width_m == 0.08


def test_fr3_file_agrees_with_what_the_simulation_uses() -> None:
    fr3 = load_robot("fr3")
    assert fr3.joint_names == plant.FR3_JOINTS
    assert fr3.home_q == plant.FR3_HOME_Q
    assert fr3.limits.tau_max_nm == plant.FR3_TORQUE_LIMIT_NM


def test_file_of_one_s_own_is_loaded_by_its_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(changed(name="mine"), encoding="utf-8")
    assert load_robot(str(path)).name == "mine"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "white"}, "unknown key colour; known: name"),
        ({"limits__speed": 1.0}, r"unknown key limits\.speed"),
        ({"control__stifness_trans": 1.0}, r"unknown key control\.stifness_trans"),
        ({"control__stiffness_trans": 9e9}, r"stiffness_trans must be 0\.0 to 5000\.0 N/m"),
        ({"home_q": [0.0] * 6}, r"home_q needs one value per joint \(7\), got 6"),
        ({"home_q": [0.0] * 7}, r"home_q of fr3_joint4 must be -3\.0421 to -0\.1518 rad, got 0\.0"),
        ({"home_q": ["a"] * 7}, r"home_q\[0\] must be a number, got 'a'"),
        ({"joint_names": ["a"] * 7}, "joint_names must be different names"),
        ({"joint_names": "a"}, "joint_names must be a list of names"),
        ({"limits__tau_max_nm": [float("nan")] * 7}, r"limits\.tau_max_nm must be finite"),
        ({"limits__tau_max_nm": [-1.0] * 7}, r"limits\.tau_max_nm must be > 0"),
        ({"gripper__max_width_m": -0.1}, "gripper must have 0 <= min_width_m < max_width_m"),
        ({"limits": 3}, r"limits\. ?must be a mapping, got int"),
        ({"limits__ddq_max_rad_s2": [1.0] * 6}, r"limits\.ddq_max_rad_s2 needs one value per"),
        ({"model__urdf": ""}, r"model\.urdf must name a file"),
        ({"model__urdf": 3}, r"model\.urdf must be text, got 3"),
        ({"model__armature_kg_m2": [0.1] * 6}, r"model\.armature_kg_m2 needs one value per"),
        ({"model__armature_kg_m2": [-0.1] * 7}, r"model\.armature_kg_m2 must be 0\.0 to 10\.0"),
        ({"model": None}, r"model\. ?must be a mapping, got NoneType"),
        ({"posture_q": [9.0] * 7}, r"posture_q of fr3_joint1 must be -2\.7437 to 2\.7437 rad"),
        ({"adds_gravity": "yes"}, "adds_gravity must be true or false, got 'yes'"),
        ({"payload": {"mass_kg": -1.0}}, r"payload\.mass_kg must be > 0"),
        ({"payload": {"mass_kg": 1.0, "com_m": [0.0]}}, r"payload\.com_m needs 3 values, got 1"),
        ({"friction": {"a_nm": [1.0] * 7}}, r"missing friction\.b_s_rad, friction\.c_rad_s"),
        ({"file": "here"}, "unknown key file"),
    ],
)
def test_wrong_file_is_refused_by_key_and_value(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_robot(changed(**changes))


def test_missing_keys_are_all_named() -> None:
    with pytest.raises(ConfigError, match="missing base_frame, ee_frame, joint_names"):
        parse_robot("name: mine")


@pytest.mark.parametrize("text", ["[1", "name: [", "\t- a", "just words", "- 1\n- 2", ""])
def test_text_that_is_no_robot_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="robot file"):
        parse_robot(text)


def test_yaml_that_would_run_code_is_refused() -> None:
    with pytest.raises(ConfigError, match="is not YAML"):
        parse_robot("name: !!python/object/apply:os.system ['true']")


def test_unknown_robot_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown robot 'ur5'; known: fr3.*, ur5e"):
        load_robot("ur5")


def test_file_that_does_not_exist_is_named() -> None:
    with pytest.raises(ConfigError, match=r"cannot read nowhere\.yaml"):
        load_robot("nowhere.yaml")


def test_what_nobody_publishes_may_be_left_out() -> None:
    data = yaml.safe_load(FR3)
    for name in ("ddq_max_rad_s2", "dddq_max_rad_s3", "dtau_max_nm_s"):
        del data["limits"][name]
    del data["gripper"]
    robot = parse_robot(yaml.safe_dump(data))
    assert (robot.limits.ddq_max_rad_s2, robot.limits.dtau_max_nm_s) == (None, None)
    assert robot.gripper is None


def test_right_arm_of_the_humanoid_mirrors_the_left() -> None:
    left, right = load_robot("g1_left_arm"), load_robot("g1_right_arm")
    mirrored = [1, -1, -1, 1, -1, 1, -1]  # roll and yaw change their sign
    for i, sign in enumerate(mirrored):
        low, high = left.limits.q_min_rad[i], left.limits.q_max_rad[i]
        there = (right.limits.q_min_rad[i], right.limits.q_max_rad[i])
        assert there == ((low, high) if sign > 0 else (-high, -low))
        assert right.home_q[i] == sign * left.home_q[i]
    assert left.control == right.control
    assert left.model == right.model


def test_fr3_is_described_to_the_law_as_ever() -> None:
    arm = arm_of(load_robot("fr3"))
    assert arm.armature_kg_m2 == (0.195,) * 4 + (0.074,) * 3
    assert arm.posture == load_robot("fr3").home_q
    assert (arm.payload, arm.friction, arm.compensates_gravity) == (None, None, True)


def test_real_robot_keeps_its_weight_and_its_friction_to_itself() -> None:
    panda = replace(load_robot("panda"), model=ModelSource(urdf="urdf/ur5e.urdf"))
    real, simulated = arm_of(panda, simulated=False), arm_of(panda)
    assert (real.compensates_gravity, simulated.compensates_gravity) == (False, True)
    assert simulated.friction is None
    law = to_law_config(panda.control, real)
    assert not law.compensate_gravity
    np.testing.assert_allclose(law.friction.a, panda.friction.a_nm)
    np.testing.assert_allclose(law.friction.c, panda.friction.c_rad_s)


def test_missing_wheel_or_file_says_what_to_install() -> None:
    with pytest.raises(ConfigError, match="pip install --no-deps no-such-wheel==1"):
        find_in_wheel("no-such-wheel==1.0", "x.urdf")
    with pytest.raises(ConfigError, match=r"numpy [\d.]+ has no file x\.urdf"):
        find_in_wheel("numpy", "x.urdf")
    with pytest.raises(ConfigError, match="does not exist"):
        find_urdf("/nowhere/x.urdf", "", None)
