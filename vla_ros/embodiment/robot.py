# SPDX-License-Identifier: Apache-2.0
"""What is known about a robot: frames, joints, limits, model, gains. One YAML file per robot."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import yaml

from vla_ros.config_fields import check_finite
from vla_ros.control.arm_parts import Friction, PayloadConfig
from vla_ros.control.config import ControlConfig
from vla_ros.embodiment.robot_parts import GripperRange, JointLimits, ModelSource
from vla_ros.errors import ConfigError
from vla_ros.share import known_settings, read_settings

_FOLDER = "config/robots"


@dataclass(frozen=True, kw_only=True)
class RobotConfig:
    """One robot.

    Attributes:
        base_frame, ee_frame: every pose is ``ee_frame`` expressed in ``base_frame``.
        joint_names: n joints, base to end effector. Other joints of the model stay at zero.
        home_q: (n,) [rad], where a simulation begins.
        posture_q: (n,) [rad], where the nullspace pulls; empty: ``home_q``.
        gripper: None without one.
        adds_gravity: the robot carries its own weight; torques sent to it must not.
        friction: of the real joints, where it was identified.
        control: settings of the control host.
        file: where this was read from.
    """

    name: str
    description: str = ""
    base_frame: str
    ee_frame: str
    joint_names: tuple[str, ...]
    home_q: tuple[float, ...]
    limits: JointLimits
    model: ModelSource
    posture_q: tuple[float, ...] = ()
    gripper: GripperRange | None = None
    adds_gravity: bool = False
    payload: PayloadConfig | None = None
    friction: Friction | None = None
    control: ControlConfig = field(default_factory=ControlConfig)
    cameras: tuple[str, ...] = ()
    file: Path | None = None

    def __post_init__(self) -> None:
        n = len(self.joint_names)
        if n < 1 or len(set(self.joint_names)) != n:
            raise ConfigError(f"joint_names must be different names, got {self.joint_names}")
        self._check_lengths(n)
        for name in ("home_q", "posture_q"):
            for joint, q, low, high in zip(
                self.joint_names,
                getattr(self, name),
                self.limits.q_min_rad,
                self.limits.q_max_rad,
                strict=False,
            ):
                if not low <= q <= high:
                    raise ConfigError(f"{name} of {joint} must be {low} to {high} rad, got {q}")

    def _check_lengths(self, n: int) -> None:
        check_finite("home_q", self.home_q)
        check_finite("posture_q", self.posture_q)
        columns: dict[str, tuple[float, ...] | None] = {"home_q": self.home_q}
        columns |= {f"limits.{f.name}": getattr(self.limits, f.name) for f in fields(self.limits)}
        columns["posture_q"] = self.posture_q or None
        columns["model.armature_kg_m2"] = self.model.armature_kg_m2 or None
        if self.friction is not None:
            columns |= {
                f"friction.{f.name}": getattr(self.friction, f.name) for f in fields(self.friction)
            }
        for name, value in columns.items():
            if value is not None and len(value) != n:
                raise ConfigError(f"{name} needs one value per joint ({n}), got {len(value)}")


def known_robots() -> list[str]:
    """Return the names of the robots there is a file for."""
    return known_settings(_FOLDER)


def load_robot(name_or_path: str) -> RobotConfig:
    """Return a robot by its name, or from a YAML file of one's own.

    Raises:
        ConfigError: if there is no such robot or file, or the file is wrong; names key and value.
    """
    path, text = read_settings(_FOLDER, "robot", name_or_path)
    return replace(parse_robot(text, str(path)), file=path)


def parse_robot(text: str, origin: str = "robot file") -> RobotConfig:
    """Return the robot that a YAML text describes; ``origin`` is named in errors."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{origin} is not YAML: {' '.join(str(error).split())}") from error
    try:
        values = _checked_keys(RobotConfig, data, "")
        for name, kind in _PARTS.items():
            if name in values and (name in _REQUIRED or values[name] is not None):
                values[name] = kind(**_checked_keys(kind, values[name], f"{name}."))
        control = _checked_keys(ControlConfig, values.get("control") or {}, "control.")
        values["control"] = ControlConfig(**control)
        return RobotConfig(**values)
    except ConfigError as error:
        raise ConfigError(f"{origin}: {error}") from error


_PARTS: dict[str, type[Any]] = {
    "limits": JointLimits,
    "model": ModelSource,
    "gripper": GripperRange,
    "payload": PayloadConfig,
    "friction": Friction,
}
_REQUIRED = ("limits", "model")
_TEXT = ("name", "description", "base_frame", "ee_frame", "urdf", "wheel")
_TEXTS = ("joint_names", "cameras")
_YES_NO = ("adds_gravity",)
_NESTED = (*_PARTS, "control")


def _checked_keys(kind: type[Any], data: object, prefix: str) -> dict[str, Any]:
    """Return the values of a mapping whose keys are exactly the fields of a dataclass."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"{prefix or 'the file '}must be a mapping, got {type(data).__name__}")
    allowed = {f.name: f for f in fields(kind) if f.name != "file"}
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
    if key in _YES_NO:
        if not isinstance(value, bool):
            raise ConfigError(f"{where} must be true or false, got {value!r}")
        return value
    if isinstance(value, list):
        return tuple(_number(f"{where}[{i}]", v) for i, v in enumerate(value))
    return _number(where, value)


def _number(where: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"{where} must be a number, got {value!r}")
    return float(value)
