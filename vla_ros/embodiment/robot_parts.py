# SPDX-License-Identifier: Apache-2.0
"""The sections of a robot file: limits, gripper, model."""

from __future__ import annotations

from dataclasses import dataclass, fields

from vla_ros.config_fields import check_finite
from vla_ros.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class JointLimits:
    """Limits that the robot itself enforces, one number per joint, base to end effector.

    Those that may be None are not published for every robot.
    """

    q_min_rad: tuple[float, ...]
    q_max_rad: tuple[float, ...]
    dq_max_rad_s: tuple[float, ...]
    tau_max_nm: tuple[float, ...]
    ddq_max_rad_s2: tuple[float, ...] | None = None
    dddq_max_rad_s3: tuple[float, ...] | None = None
    dtau_max_nm_s: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        for f in fields(self):
            values = getattr(self, f.name)
            if values is None:
                continue
            check_finite(f"limits.{f.name}", values)
            if "_max_" in f.name and f.name != "q_max_rad" and min(values) <= 0:
                raise ConfigError(f"limits.{f.name} must be > 0, got {values}")
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
class ModelSource:
    """Where the model of a robot comes from and what no URDF says.

    Attributes:
        urdf: path of the URDF: inside the wheel; without one, beside the robot file, in this
            package, or absolute.
        wheel: ``name==version`` of the wheel that has it; empty: none.
        armature_kg_m2: (n,) rotor inertia seen at the joint; empty: none.
    """

    urdf: str
    wheel: str = ""
    armature_kg_m2: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if not self.urdf:
            raise ConfigError("model.urdf must name a file, got ''")
        check_finite("model.armature_kg_m2", self.armature_kg_m2)
        if any(not 0.0 <= value <= 10.0 for value in self.armature_kg_m2):
            raise ConfigError(
                f"model.armature_kg_m2 must be 0.0 to 10.0 kg·m², got {self.armature_kg_m2}"
            )
