# SPDX-License-Identifier: Apache-2.0
"""Settings of the law by the behaviour they give. One YAML file each, in ``config/control``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import yaml

from vla_ros.control.law_settings import LawSettings
from vla_ros.errors import ConfigError
from vla_ros.share import known_settings, read_settings

_FOLDER = "config/control"
# What belongs to a robot, not to a behaviour: a preset leaves it as it is.
ROBOT_SETTINGS = (
    "compensate_gravity",
    "friction_a",
    "friction_b",
    "friction_c",
    "torque_limit_share",
    "torque_rate_limit_nm_s",
    "velocity_limit_rad_s",
    "velocity_limit_damping",
    "fault_damping",
    "filter_position_s",
    "filter_velocity_s",
    "filter_torque_s",
)


def behaviour_settings() -> tuple[str, ...]:
    """Return the names of the settings that a preset may state and always decides."""
    return tuple(name for name in LawSettings().names() if name not in ROBOT_SETTINGS)


def known_presets() -> list[str]:
    """Return the names of the presets there is a file for."""
    return known_settings(_FOLDER)


def load_preset(name_or_path: str, robot: LawSettings | None = None) -> LawSettings:
    """Return a preset by its name, or from a YAML file of one's own.

    What the file does not state has its default; what belongs to the robot is taken from
    ``robot``, by default that of a torque-controlled arm.

    Raises:
        ConfigError: if there is no such preset or file, or the file is wrong; names key and value.
    """
    path, text = read_settings(_FOLDER, "preset", name_or_path)
    return parse_preset(text, str(path), robot)


def parse_preset(
    text: str, origin: str = "preset", robot: LawSettings | None = None
) -> LawSettings:
    """Return the preset that a YAML text describes; ``origin`` is named in errors."""
    try:
        data = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(data, Mapping):
        raise ConfigError(f"{origin}: the file must be a mapping, got {type(data).__name__}")
    values = {key: value for key, value in data.items() if key != "description"}
    _check_keys(values, origin)
    of_robot = robot or LawSettings()
    base = LawSettings(**{name: getattr(of_robot, name) for name in ROBOT_SETTINGS})
    try:
        return replace(base, **values)
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from error


def _check_keys(values: Mapping[Any, Any], origin: str) -> None:
    known = behaviour_settings()
    for key in values:
        if key in ROBOT_SETTINGS:
            raise ConfigError(f"{origin}: {key} belongs into the file of a robot (control:)")
        if key not in known:
            raise ConfigError(f"{origin}: unknown key {key}; known: {', '.join(known)}")
