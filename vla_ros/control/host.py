# SPDX-License-Identifier: Apache-2.0
"""Builds the C++ control host from checked settings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import vla_ros_core as core
from vla_ros.control.arm import ArmDescription, build_model
from vla_ros.control.config import ControlConfig
from vla_ros.control.law_settings import to_law_config
from vla_ros.errors import ConfigError

__all__ = [
    "SOURCES",
    "TARGET_SOURCE",
    "ArmDescription",
    "build_host",
    "build_model",
    "to_law_config",
]

SOURCES = ("policy", "teleop")
TARGET_SOURCE = "topic"  # what plain targets are called in leases


def build_host(
    config: ControlConfig,
    arms: ArmDescription | Sequence[ArmDescription],
    plant: core.Plant,
    shm_prefix: str,
    initial_gripper_width_m: float = 0.08,
    plant_joint_names: Sequence[str] = (),
) -> core.ControlHost:
    """Return a control host that owns ``plant``; start() runs it, run_ticks() steps it.

    All arms begin with the same settings. ``plant_joint_names``: order of the plant's joints;
    by default those of the arms, one after the other.

    Raises:
        ConfigError: if a setting is refused or the shared memory is in use.
    """
    listed = [arms] if isinstance(arms, ArmDescription) else list(arms)
    host = core.ControlHostConfig()
    host.rate_hz = config.rate_hz
    host.shm_prefix = shm_prefix
    host.sources = list(SOURCES)
    host.target_source = TARGET_SOURCE
    host.targets_need_lease = config.targets_need_lease
    names = list(plant_joint_names) or [name for arm in listed for name in arm.joint_names]
    host.plant_joint_names = names
    host.initial_gripper_width_m = initial_gripper_width_m
    host.reference = _to_reference_config(config)
    host.workspace = _to_workspace(config)
    host.target = _to_target_config(config)
    try:
        setups = [_to_setup(config, arm) for arm in listed]
        return core.ControlHost(host, setups, plant)
    except core.Error as error:
        raise ConfigError(str(error)) from error


def _to_setup(config: ControlConfig, arm: ArmDescription) -> core.ArmSetup:
    law = to_law_config(config, arm)
    return core.ArmSetup(
        build_model(arm),
        law,
        arm.base_frame,
        arm.ee_frame,
        list(arm.joint_names),
        robot_adds_gravity=not arm.compensates_gravity,
    )


def _to_workspace(config: ControlConfig) -> core.WorkspaceConfig:
    box = core.WorkspaceConfig()
    if len(config.workspace_low_m) != 3 or len(config.workspace_high_m) != 3:
        raise ConfigError("workspace_low_m and workspace_high_m need three values: x, y, z")
    box.low, box.high = np.array(config.workspace_low_m), np.array(config.workspace_high_m)
    box.margin_m = config.workspace_margin_m
    return box


def _to_target_config(config: ControlConfig) -> core.TargetConfig:
    target = core.TargetConfig()
    target.max_speed_m_s = config.max_speed_m_s
    target.max_speed_rad_s = config.max_speed_rad_s
    target.brake_m_s2 = config.brake_m_s2
    target.brake_rad_s2 = config.brake_rad_s2
    target.acceleration_feed_forward = config.acceleration_feed_forward
    target.timeout_s = config.target_timeout_s
    target.max_distance_m = config.target_max_distance_m
    target.max_acceleration_m_s2 = config.target_max_acceleration_m_s2
    target.max_force_n = config.target_max_force_n
    target.max_torque_nm = config.target_max_torque_nm
    return target


def _to_reference_config(config: ControlConfig) -> core.ReferenceConfig:
    reference = core.ReferenceConfig()
    reference.max_speed_m_s = config.max_speed_m_s
    reference.max_speed_rad_s = config.max_speed_rad_s
    reference.brake_m_s2 = config.brake_m_s2
    reference.brake_rad_s2 = config.brake_rad_s2
    reference.seam_time_constant_s = config.seam_time_constant_s
    reference.acceleration_feed_forward = config.acceleration_feed_forward
    return reference
