# SPDX-License-Identifier: Apache-2.0
"""What is known about a robot: frames, joints, limits, gripper, gains. One YAML file per robot."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from vla_ros.control.config import ControlConfig
from vla_ros.errors import ConfigError
from vla_ros.share import find_shared

_FOLDER = "config/robots"


@dataclass(frozen=True, kw_only=True)
class JointLimits:
    """Limits that the robot itself enforces, one number per joint, base to end effector."""

    q_min_rad: tuple[float, ...]
    q_max_rad: tuple[float, ...]
    dq_max_rad_s: tuple[float, ...]
    ddq_max_rad_s2: tuple[float, ...]
    dddq_max_rad_s3: tuple[float, ...]
    tau_max_nm: tuple[float, ...]
    dtau_max_nm_s: tuple[float, ...]

    def __post_init__(self) -> None:
        for f in fields(self):
            _check_finite(f"limits.{f.name}", getattr(self, f.name))
            if "_max_" in f.name and f.name != "q_max_rad" and min(getattr(self, f.name)) <= 0:
                raise ConfigError(f"limits.{f.name} must be > 0, got {getattr(self, f.name)}")
        for i, (low, high) in enumerate(zip(self.q_min_rad, self.q_max_rad, strict=False)):
            if low >= high:
                raise ConfigError(
                    f"limits of joint {i + 1} must be q_min < q_max, got {low}, {high}"
                )


@dataclass(frozen=True, kw_only=True)
class GripperRange:
    """Opening between the fingers [m]."""

    min_width_m: float
    max_width_m: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_width_m < self.max_width_m <= 1.0:
            raise ConfigError(
                "gripper must have 0 <= min_width_m < max_width_m <= 1 m, "
                f"got {self.min_width_m}, {self.max_width_m}"
            )


@dataclass(frozen=True, kw_only=True)
class RobotConfig:
    """One robot.

    Attributes:
        base_frame, ee_frame: every pose is ``ee_frame`` expressed in ``base_frame``.
        joint_names: n joints, base to end effector. home_q: (n,) [rad].
        control: settings of the control host.
    """

    name: str
    description: str = ""
    base_frame: str
    ee_frame: str
    joint_names: tuple[str, ...]
    home_q: tuple[float, ...]
    limits: JointLimits
    gripper: GripperRange
    control: ControlConfig = field(default_factory=ControlConfig)
    cameras: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n = len(self.joint_names)
        if n < 1 or len(set(self.joint_names)) != n:
            raise ConfigError(f"joint_names must be different names, got {self.joint_names}")
        _check_finite("home_q", self.home_q)
        columns = {f"limits.{f.name}": getattr(self.limits, f.name) for f in fields(self.limits)}
        for name, value in {"home_q": self.home_q, **columns}.items():
            if len(value) != n:
                raise ConfigError(f"{name} needs one value per joint ({n}), got {len(value)}")
        for joint, q, low, high in zip(
            self.joint_names, self.home_q, self.limits.q_min_rad, self.limits.q_max_rad, strict=True
        ):
            if not low <= q <= high:
                raise ConfigError(f"home_q of {joint} must be {low} to {high} rad, got {q}")


def known_robots() -> list[str]:
    """Return the names of the robots there is a file for."""
    return sorted(path.stem for path in find_shared(_FOLDER).glob("*.yaml"))


def load_robot(name_or_path: str) -> RobotConfig:
    """Return a robot by its name, or from a YAML file of one's own.

    Raises:
        ConfigError: if there is no such robot or file, or the file is wrong; names key and value.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        if name_or_path not in known_robots():
            raise ConfigError(
                f"unknown robot {name_or_path!r}; known: {', '.join(known_robots())}, "
                "or the path of a .yaml file"
            )
        path = find_shared(_FOLDER) / f"{name_or_path}.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return parse_robot(text, str(path))


def parse_robot(text: str, origin: str = "robot file") -> RobotConfig:
    """Return the robot that a YAML text describes; ``origin`` is named in errors."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin} is not YAML: {' '.join(str(error).split())}") from error
    try:
        values = _checked_keys(RobotConfig, data, "")
        values["limits"] = JointLimits(**_checked_keys(JointLimits, values["limits"], "limits."))
        values["gripper"] = GripperRange(
            **_checked_keys(GripperRange, values["gripper"], "gripper.")
        )
        control = _checked_keys(ControlConfig, values.get("control") or {}, "control.")
        values["control"] = ControlConfig(**control)
        return RobotConfig(**values)
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from error


_TEXT = ("name", "description", "base_frame", "ee_frame")
_TEXTS = ("joint_names", "cameras")
_NESTED = ("limits", "gripper", "control")


def _checked_keys(kind: type[Any], data: object, prefix: str) -> dict[str, Any]:
    """Return the values of a mapping whose keys are exactly the fields of a dataclass."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{prefix or 'the file '}must be a mapping, got {type(data).__name__}")
    allowed = {f.name: f for f in fields(kind)}
    unknown = [str(key) for key in data if key not in allowed]
    if unknown:
        raise ConfigError(
            f"unknown key {prefix}{unknown[0]}; known: {', '.join(prefix + n for n in allowed)}"
        )
    missing = [
        f"{prefix}{name}"
        for name, f in allowed.items()
        if f.default is MISSING and f.default_factory is MISSING and name not in data
    ]
    if missing:
        raise ConfigError(f"missing {', '.join(missing)}")
    is_settings = kind is ControlConfig  # checks its own types
    return {
        key: value if is_settings or key in _NESTED else _converted(f"{prefix}{key}", key, value)
        for key, value in data.items()
    }


def _converted(where: str, key: str, value: object) -> Any:
    if key in _TEXT:
        if not isinstance(value, str):
            raise ConfigError(f"{where} must be text, got {value!r}")
        return value
    if key in _TEXTS:
        if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
            raise ConfigError(f"{where} must be a list of names, got {value!r}")
        return tuple(value)
    if isinstance(value, list):
        return tuple(_number(f"{where}[{i}]", v) for i, v in enumerate(value))
    return _number(where, value)


def _number(where: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{where} must be a number, got {value!r}")
    return float(value)


def _check_finite(name: str, values: object) -> None:
    if not isinstance(values, tuple):
        raise ConfigError(f"{name} must be a list of numbers, got {values!r}")
    if not all(math.isfinite(value) for value in values):
        raise ConfigError(f"{name} must be finite, got {values}")
