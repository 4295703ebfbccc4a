# SPDX-License-Identifier: Apache-2.0
"""Every setting of the control law that may change while the arm moves, as flat numbers.

One source of names, defaults, units and ranges: the parameters of ``control_node``, the files of
robots (``control:``) and the presets of ``config/control`` are made from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

import vla_ros_core as core
from vla_ros.config_fields import check_fields, setting
from vla_ros.control.arm import ArmDescription
from vla_ros.control.arm_parts import Friction
from vla_ros.errors import ConfigError

KINDS = {
    "impedance": core.LawKind.IMPEDANCE,
    "operational_space": core.LawKind.OPERATIONAL_SPACE,
    "joint": core.LawKind.JOINT,
}
DAMPING_DESIGNS = {
    "inertia_aware": core.DampingDesign.INERTIA_AWARE,
    "plain": core.DampingDesign.PLAIN,
}
PROJECTORS = {
    "dynamic": core.Projector.DYNAMIC,
    "kinematic": core.Projector.KINEMATIC,
    "none": core.Projector.NONE,
}
AXES = {"base": core.TaskAxes.BASE, "end_effector": core.TaskAxes.END_EFFECTOR}
SHARES = ("share_x", "share_y", "share_z", "share_rx", "share_ry", "share_rz")


def _share(axis: str) -> Any:
    return setting(1.0, f"share of the stiffness along {axis}; 0: free", ge=0.0, le=1.0)


def _filter(signal: str, le: float) -> Any:
    return setting(0.0, f"time constant of the filter of {signal}", unit="s", ge=0.0, le=le)


@dataclass(frozen=True, kw_only=True)
class LawSettings:
    """The law as its users see it. Lists have one value for all joints or one per joint.

    Raises:
        ConfigError: naming value and allowed range.
    """

    kind: str = setting("impedance", "which error the law acts on", choices=tuple(KINDS))
    axes: str = setting("base", "axes of stiffness, damping and clip", choices=tuple(AXES))
    stiffness_trans: float = setting(
        1000.0, "translational stiffness", unit="N/m", ge=0.0, le=5000.0
    )
    stiffness_rot: float = setting(50.0, "rotational stiffness", unit="N·m/rad", ge=0.0, le=500.0)
    share_x: float = _share("x")
    share_y: float = _share("y")
    share_z: float = _share("z")
    share_rx: float = _share("rotation about x")
    share_ry: float = _share("rotation about y")
    share_rz: float = _share("rotation about z")
    damping_ratio: float = setting(1.4, "damping ratio about the task inertia", ge=0.1, le=2.0)
    damping_design: str = setting(
        "inertia_aware", "how damping follows from stiffness", choices=tuple(DAMPING_DESIGNS)
    )
    extra_damping_trans: float = setting(
        0.0, "damping added in translation", unit="N·s/m", ge=0.0, le=1000.0
    )
    extra_damping_rot: float = setting(
        0.0, "damping added in rotation", unit="N·m·s/rad", ge=0.0, le=100.0
    )
    error_clip_trans_m: float = setting(
        0.04,
        "position error beyond which the spring force does not grow",
        unit="m",
        ge=1e-4,
        le=1.0,
    )
    error_clip_rot_rad: float = setting(
        0.4,
        "rotation error beyond which the spring torque does not grow",
        unit="rad",
        ge=1e-4,
        le=3.2,
    )
    projector: str = setting(
        "dynamic", "what keeps the posture away from the task", choices=tuple(PROJECTORS)
    )
    nullspace_stiffness: float = setting(
        10.0, "stiffness towards the posture", unit="N·m/rad", ge=0.0, le=500.0
    )
    nullspace_weights: tuple[float, ...] = setting(
        (1.0,), "factors of the stiffness towards the posture", ge=0.0, le=1.0
    )
    nullspace_damping_ratio: float = setting(1.0, "of 2 sqrt(k)", ge=0.0, le=2.0)
    nullspace_torque_limit_nm: float = setting(
        1000.0, "largest posture torque", unit="N·m", ge=0.0, le=1000.0
    )
    manipulability_gain: float = setting(
        0.0, "pull away from singular poses", unit="N·m", ge=0.0, le=50.0
    )
    limit_avoidance_gain: float = setting(
        0.0, "pull to the middle of the joint ranges", unit="N·m", ge=0.0, le=50.0
    )
    joint_stiffness: float = setting(
        100.0, "stiffness of kind joint", unit="N·m/rad", ge=0.0, le=5000.0
    )
    joint_weights: tuple[float, ...] = setting(
        (1.0,), "factors of the joint stiffness", ge=0.0, le=1.0
    )
    joint_damping_ratio: float = setting(1.0, "damping ratio of kind joint", ge=0.0, le=2.0)
    joint_extra_damping: float = setting(
        0.0, "damping added in kind joint", unit="N·m·s/rad", ge=0.0, le=200.0
    )
    joint_error_clip_rad: float = setting(
        0.5,
        "joint error beyond which the spring torque does not grow",
        unit="rad",
        ge=1e-4,
        le=3.2,
    )
    gain_ramp_s: float = setting(0.1, "time constant of changed gains", unit="s", ge=0.0, le=10.0)
    stiffening_power_w: float = setting(
        5.0, "most power that rising stiffness puts into the spring", unit="W", ge=0.01, le=1000.0
    )
    kinematic_regularisation: float = setting(
        1e-6, "regularisation of the kinematic projector", ge=1e-6, le=1.0
    )
    operational_regularisation: float = setting(
        0.0, "regularisation of the task inertia in kind operational_space", ge=0.0, le=1.0
    )
    compensate_gravity: bool = setting(True, "false where the robot adds gravity itself")
    compensate_coriolis: bool = setting(True, "add Coriolis and centrifugal torques")
    friction_a: tuple[float, ...] = setting(
        (0.0,), "friction model: size", unit="N·m", ge=0.0, le=50.0
    )
    friction_b: tuple[float, ...] = setting(
        (0.0,), "friction model: steepness", unit="s/rad", ge=0.0, le=1000.0
    )
    friction_c: tuple[float, ...] = setting(
        (0.0,), "friction model: offset", unit="rad/s", ge=-1.0, le=1.0
    )
    friction_scale: float = setting(1.0, "share of friction that is compensated", ge=0.0, le=1.0)
    limit_range_rad: float = setting(
        0.1, "repulsion begins this far from a joint limit", unit="rad", ge=1e-3, le=1.0
    )
    limit_torque_nm: float = setting(
        5.0, "repulsion at a joint limit", unit="N·m", ge=0.0, le=100.0
    )
    velocity_limit_rad_s: float = setting(
        0.0, "joint speed that is damped beyond; 0: none", unit="rad/s", ge=0.0, le=100.0
    )
    velocity_limit_damping: float = setting(
        20.0, "damping beyond that speed", unit="N·m·s/rad", ge=0.0, le=1000.0
    )
    torque_limit_share: float = setting(1.0, "share of the arm's torque limits", ge=0.05, le=1.0)
    torque_rate_limit_nm_s: float = setting(
        1000.0, "largest change of a joint torque", unit="N·m/s", ge=1.0, le=100000.0
    )
    fault_damping: float = setting(
        5.0, "joint damping after a fault", unit="N·m·s/rad", ge=0.0, le=100.0
    )
    filter_position_s: float = _filter("measured positions", 0.1)
    filter_velocity_s: float = _filter("measured velocities", 0.1)
    filter_target_s: float = _filter("the reference pose", 5.0)
    filter_posture_s: float = _filter("posture and joint reference", 5.0)
    filter_wrench_s: float = _filter("the feed-forward wrench", 5.0)
    filter_torque_s: float = _filter("the torque", 0.1)

    def __post_init__(self) -> None:
        for f in fields(self):
            if isinstance(f.default, tuple):
                object.__setattr__(self, f.name, _to_tuple(f.name, getattr(self, f.name)))
        check_fields(self)

    def names(self) -> list[str]:
        """Return the names of all settings."""
        return [f.name for f in fields(self)]

    def stiffness(self) -> NDArray[np.float64]:
        """Return the stiffness (6, 6), linear first [N/m, N·m/rad], in the axes of the task."""
        shares = np.array([getattr(self, name) for name in SHARES])
        return np.diag(np.repeat([self.stiffness_trans, self.stiffness_rot], 3) * shares)


def _to_tuple(name: str, values: Any) -> tuple[Any, ...]:
    # From a file or a ROS parameter these are lists and arrays.
    if isinstance(values, str) or not hasattr(values, "__len__"):
        raise ConfigError(f"{name} must be a list of numbers, got {values!r}")
    if len(values) < 1:
        raise ConfigError(f"{name} needs one value, or one per joint")
    return tuple(values)


def _per_joint(name: str, values: Sequence[float], n: int) -> list[float]:
    if len(values) not in (1, n):
        raise ConfigError(f"{name} needs 1 value or {n}, one per joint, got {len(values)}")
    return list(values) * n if len(values) == 1 else list(values)


def to_law_config(settings: LawSettings, arm: ArmDescription) -> core.LawConfig:
    """Return the settings in the core's form, for one arm.

    Raises:
        ConfigError: if a list does not fit the number of joints or the core refuses a value.
    """
    n = len(arm.joint_names)
    law = core.LawConfig.for_joints(n)
    law.kind = KINDS[settings.kind]
    law.axes = AXES[settings.axes]
    law.damping_design = DAMPING_DESIGNS[settings.damping_design]
    law.projector = PROJECTORS[settings.projector]
    law.gains = _gains(settings, n)
    law.filters = _filters(settings)
    law.posture = list(arm.posture)
    law.torque_limit = [settings.torque_limit_share * limit for limit in arm.torque_limit_nm]
    law.torque_rate_limit = [settings.torque_rate_limit_nm_s] * n
    if settings.velocity_limit_rad_s > 0.0:
        law.velocity_limit = [settings.velocity_limit_rad_s] * n
    if any(settings.friction_a):
        law.friction = _friction(settings, n)
    elif arm.friction is not None:
        law.friction = _identified(arm.friction)
    for name in (
        "gain_ramp_s",
        "stiffening_power_w",
        "kinematic_regularisation",
        "operational_regularisation",
        "compensate_coriolis",
        "friction_scale",
        "limit_range_rad",
        "limit_torque_nm",
        "velocity_limit_damping",
        "fault_damping",
    ):
        setattr(law, name, getattr(settings, name))
    law.compensate_gravity = settings.compensate_gravity and arm.compensates_gravity
    try:
        law.validate(n)
    except core.Error as error:
        raise ConfigError(str(error)) from error
    return law


def _gains(settings: LawSettings, n: int) -> core.LawGains:
    gains = core.LawGains.for_joints(n)
    gains.stiffness = settings.stiffness()
    gains.error_clip = np.repeat([settings.error_clip_trans_m, settings.error_clip_rot_rad], 3)
    gains.extra_damping = np.repeat([settings.extra_damping_trans, settings.extra_damping_rot], 3)
    weights = _per_joint("nullspace_weights", settings.nullspace_weights, n)
    gains.nullspace_stiffness = [settings.nullspace_stiffness * w for w in weights]
    weights = _per_joint("joint_weights", settings.joint_weights, n)
    gains.joint_stiffness = [settings.joint_stiffness * w for w in weights]
    gains.joint_extra_damping = [settings.joint_extra_damping] * n
    for name in (
        "damping_ratio",
        "nullspace_damping_ratio",
        "nullspace_torque_limit_nm",
        "manipulability_gain",
        "limit_avoidance_gain",
        "joint_damping_ratio",
        "joint_error_clip_rad",
    ):
        setattr(gains, name, getattr(settings, name))
    return gains


def _filters(settings: LawSettings) -> core.LawFilters:
    filters = core.LawFilters()
    for name in ("position_s", "velocity_s", "target_s", "posture_s", "wrench_s", "torque_s"):
        setattr(filters, name, getattr(settings, f"filter_{name}"))
    return filters


def _identified(model: Friction) -> core.FrictionModel:
    friction = core.FrictionModel()
    friction.a, friction.b, friction.c = (
        list(model.a_nm),
        list(model.b_s_rad),
        list(model.c_rad_s),
    )
    return friction


def _friction(settings: LawSettings, n: int) -> core.FrictionModel:
    friction = core.FrictionModel()
    for name in ("a", "b", "c"):
        values = getattr(settings, f"friction_{name}")
        setattr(friction, name, _per_joint(f"friction_{name}", values, n))
    return friction
