# SPDX-License-Identifier: Apache-2.0
"""Settings of the law: one source for parameters, robot files and presets."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest

import vla_ros_core as core
from vla_ros.control.config import ControlConfig
from vla_ros.control.law_settings import LawSettings, to_law_config
from vla_ros.control.presets import (
    ROBOT_SETTINGS,
    behaviour_settings,
    known_presets,
    load_preset,
    parse_preset,
)
from vla_ros.errors import ConfigError
from vla_ros.share import find_shared
from vla_ros.sim.plant import fr3_arm

ARM = fr3_arm()


def public(value: object) -> list[str]:
    return [name for name in dir(value) if not name.startswith("_")]


def flat(law: core.LawConfig) -> dict[str, object]:
    """Return every field of a law as something that can be compared."""
    parts = {"": law, "gains.": law.gains, "filters.": law.filters, "friction.": law.friction}
    values = {}
    for prefix, part in parts.items():
        for name in public(part):
            value = getattr(part, name)
            if not callable(value) and name not in ("gains", "filters", "friction"):
                values[prefix + name] = np.asarray(value).tolist() if prefix else str(value)
    values["gains.stiffness"] = np.asarray(law.gains.stiffness).tolist()
    return values


def other_value(f) -> object:
    """Return an allowed value of a setting that is not its default."""
    if isinstance(f.default, bool):
        return not f.default
    if isinstance(f.default, str):
        return next(c for c in f.metadata["choices"] if c != f.default)
    low, high = f.metadata["ge"], f.metadata["le"]
    default = f.default[0] if isinstance(f.default, tuple) else f.default
    value = 0.5 * (low + min(high, default + 0.4 * (high - low)))
    value = value if value != default else 0.5 * (default + high)
    return (value,) if isinstance(f.default, tuple) else value


@pytest.mark.parametrize("f", fields(LawSettings), ids=lambda f: f.name)
def test_every_setting_reaches_the_law(f) -> None:
    # Friction has an effect only if there is any.
    base = LawSettings(friction_a=(1.0,))
    changed = replace(base, **{f.name: other_value(f)})
    assert flat(to_law_config(changed, ARM)) != flat(to_law_config(base, ARM))


def test_every_field_of_the_law_can_be_set() -> None:
    base = LawSettings(friction_a=(1.0,))
    reached: set[str] = set()
    before = flat(to_law_config(base, ARM))
    for f in fields(LawSettings):
        after = flat(to_law_config(replace(base, **{f.name: other_value(f)}), ARM))
        reached |= {name for name in before if before[name] != after[name]}
    # The posture is the arm's, and live through target_joint.
    assert set(before) - reached == {"posture"}


def test_settings_of_the_host_are_those_of_the_law_and_more() -> None:
    assert set(LawSettings().names()) < set(ControlConfig().names())
    for name in LawSettings().names():
        assert getattr(ControlConfig(), name) == getattr(LawSettings(), name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stiffness_trans": -1.0}, r"stiffness_trans must be 0\.0 to 5000\.0 N/m, got -1\.0"),
        ({"share_x": 1.1}, "share_x must be"),
        ({"kind": "magic"}, "kind must be one of impedance, operational_space, joint"),
        ({"joint_weights": ()}, "joint_weights needs one value, or one per joint"),
        ({"joint_weights": 1.0}, "joint_weights must be a list of numbers"),
        ({"joint_weights": "1.0"}, "joint_weights must be a list of numbers"),
        ({"friction_a": (1.0, -1.0)}, r"friction_a\[1\] must be 0\.0 to 50\.0 N·m"),
        ({"gain_ramp_s": float("nan")}, "gain_ramp_s must be"),
    ],
)
def test_bad_value_is_refused_by_name_and_range(change, message) -> None:
    with pytest.raises(ConfigError, match=message):
        LawSettings(**change)


def test_list_of_the_wrong_length_is_refused() -> None:
    settings = LawSettings(joint_weights=(1.0, 0.5))
    with pytest.raises(ConfigError, match=r"joint_weights needs 1 value or 7, .* got 2"):
        to_law_config(settings, ARM)


def test_one_value_counts_for_every_joint() -> None:
    law = to_law_config(LawSettings(joint_stiffness=50.0, joint_weights=[0.5]), ARM)
    assert law.gains.joint_stiffness == [25.0] * 7


def test_there_is_a_preset_for_every_behaviour() -> None:
    assert set(known_presets()) >= {
        "default",
        "soft",
        "stiff_clipped",
        "operational_space",
        "hand_guiding",
        "on_a_plane",
        "joint_control",
        "follow_force",
        "no_friction",
    }


@pytest.mark.parametrize("name", known_presets())
def test_preset_loads_and_fits_the_law(name: str) -> None:
    to_law_config(load_preset(name), ARM)
    text = find_shared(f"config/control/{name}.yaml").read_text(encoding="utf-8")
    assert "description:" in text


def test_default_preset_is_the_default() -> None:
    assert load_preset("default") == LawSettings()


def test_preset_leaves_alone_what_belongs_to_the_robot() -> None:
    robot = LawSettings(compensate_gravity=False, torque_rate_limit_nm_s=200.0, stiffness_rot=1.0)
    soft = load_preset("soft", robot)
    assert not soft.compensate_gravity
    assert soft.torque_rate_limit_nm_s == 200.0
    assert soft.stiffness_rot == 10.0
    assert set(behaviour_settings()) | set(ROBOT_SETTINGS) == set(LawSettings().names())


def test_preset_of_one_s_own_is_loaded_by_its_path(tmp_path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("stiffness_trans: 300.0\n", encoding="utf-8")
    assert load_preset(str(path)).stiffness_trans == 300.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stiffnes: 1.0", "mine: unknown key stiffnes; known: kind, axes"),
        ("torque_limit_share: 0.5", "mine: torque_limit_share belongs into the file of a robot"),
        ("stiffness_trans: 9e9", "mine: stiffness_trans must be"),
        ("stiffness_trans: much", "mine: stiffness_trans must be float, got str 'much'"),
        ("[1, 2]", "mine: the file must be a mapping, got list"),
        ("a: [", "mine is not YAML"),
    ],
)
def test_bad_preset_is_refused_with_file_key_and_value(text, message) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_preset(text, "mine")


def test_unknown_preset_and_missing_file_are_named() -> None:
    with pytest.raises(ConfigError, match=r"unknown preset 'hard'; known: default, "):
        load_preset("hard")
    with pytest.raises(ConfigError, match=r"cannot read /nowhere/mine\.yaml"):
        load_preset("/nowhere/mine.yaml")
