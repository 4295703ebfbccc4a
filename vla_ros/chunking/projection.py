# SPDX-License-Identifier: Apache-2.0
"""Where the arm will be when new rows begin: level 3 of the compensation ladder.

Under impedance control the arm lags behind its reference. Per axis, with the control law's natural
frequency w and damping ratio z, the deviation e = x - x_ref obeys

    e'' + 2 z w e' + w^2 e = -x_ref''

Between rows the reference is taken as linear, so x_ref'' = 0 there, e' jumps at a row by the
change of the reference's velocity, and each piece is solved in closed form. Contact forces and the
host's limits are not modelled.
"""

from __future__ import annotations

import cmath
import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.rows import Sample, Times, row_times, sample, twist
from vla_ros.config_fields import check_fields, setting
from vla_ros.geometry import matrix_to_quat_xyzw, pose_from_quat
from vla_ros.rotations import difference, rotated
from vla_ros.types import ActionChunk, RobotState

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ImpedanceModel:
    """How the arm follows its reference. Natural frequency = sqrt(stiffness / task inertia)."""

    frequency_trans_rad_s: float = setting(
        18.0, "natural frequency of the translation", unit="rad/s", ge=0.1, le=500.0
    )
    frequency_rot_rad_s: float = setting(
        18.0, "natural frequency of the rotation", unit="rad/s", ge=0.1, le=500.0
    )
    damping_ratio: float = setting(1.0, "damping ratio", ge=0.05, le=5.0)
    gripper_speed_m_s: float = setting(
        0.1, "speed of the gripper's width", unit="m/s", ge=1e-3, le=1.0
    )

    def __post_init__(self) -> None:
        check_fields(self)


def free_response(frequency_rad_s: float, damping_ratio: float, step_s: float) -> Array:
    """Return the (2, 2) matrix that takes (e, e') over ``step_s``, at any damping ratio."""
    alpha = damping_ratio * frequency_rad_s
    root = cmath.sqrt(frequency_rad_s**2 - alpha**2)
    cosine = cmath.cos(root * step_s).real
    sine = step_s if abs(root) < 1e-9 else (cmath.sin(root * step_s) / root).real
    matrix = np.array(
        [
            [cosine + alpha * sine, sine],
            [-(frequency_rad_s**2) * sine, cosine - alpha * sine],
        ]
    )
    response: Array = math.exp(-alpha * step_s) * matrix
    return response


def project_state(
    state: RobotState, rows: ActionChunk | None, until_ns: int, model: ImpedanceModel
) -> RobotState:
    """Return the state at ``until_ns`` if ``rows`` are executed until then.

    Pose, twist, reference and gripper are projected. Joint positions, sequence number and tick time
    stay those of the measurement: without a robot model they are not known, and stamps must name
    what was measured. Without rows the reference in force stays where it is.
    """
    if until_ns <= state.tick_ns:
        return state
    knots, reference = _reference(state, rows, until_ns)
    positions, quats = reference.positions, reference.quats_xyzw
    gripper = float(reference.gripper_width_m[-1])
    measured_quat = matrix_to_quat_xyzw(state.T_base_ee[:3, :3])
    error, rate = _deviation(
        np.concatenate(
            [state.T_base_ee[:3, 3] - positions[0], difference(quats[0], measured_quat)]
        ),
        state.twist_base,
        np.hstack([np.diff(positions, axis=0), difference(quats[:-1], quats[1:])]),
        1e-9 * np.diff(knots),
        model,
    )
    opening = gripper - state.gripper_width_m
    reach = model.gripper_speed_m_s * 1e-9 * (until_ns - state.tick_ns)
    return replace(
        state,
        T_base_ee=pose_from_quat(positions[-1] + error[:3], rotated(quats[-1], error[3:])),
        twist_base=rate,
        T_base_ref=pose_from_quat(positions[-1], quats[-1]),
        twist_ref_base=np.zeros(6) if rows is None else twist(rows, until_ns),
        gripper_width_m=state.gripper_width_m + min(max(opening, -reach), reach),
        gripper_target_m=gripper,
    )


def last_row_state(state: RobotState, rows: ActionChunk | None, until_ns: int) -> RobotState:
    """Return the state as if the arm were at the last row due before ``until_ns`` (VLASH).

    The command taken for the state: right for a stiff position-controlled arm.
    """
    if rows is None or until_ns <= rows.target0_ns:
        return state
    found = sample(rows, row_times(rows)[row_times(rows) < until_ns][-1:])
    T_base_row = pose_from_quat(found.positions[0], found.quats_xyzw[0])
    gripper = float(found.gripper_width_m[0])
    return replace(
        state,
        T_base_ee=T_base_row,
        T_base_ref=T_base_row,
        gripper_width_m=gripper,
        gripper_target_m=gripper,
    )


def _reference(state: RobotState, rows: ActionChunk | None, until_ns: int) -> tuple[Times, Sample]:
    """Return the instants at which the reference bends, ends included, and the reference there."""
    ends = np.array([state.tick_ns, until_ns], dtype=np.int64)
    if rows is None:
        quat = matrix_to_quat_xyzw(state.T_base_ref[:3, :3])
        positions = np.tile(state.T_base_ref[:3, 3], (2, 1))
        return ends, Sample(positions, np.tile(quat, (2, 1)), np.full(2, state.gripper_target_m))
    inner = row_times(rows)
    inner = inner[(inner > state.tick_ns) & (inner < until_ns)]
    knots = np.concatenate([ends[:1], inner, ends[1:]])
    return knots, sample(rows, knots)


def _deviation(
    error: Array, twist_base: Array, moves: Array, steps_s: Array, model: ImpedanceModel
) -> tuple[Array, Array]:
    """Return deviation from the reference (6,) and twist (6,) after all pieces of it."""
    velocity = np.array(twist_base)
    for move, step_s in zip(moves, steps_s, strict=True):
        reference = move / step_s
        rate = velocity - reference
        for axes, frequency in (
            (slice(0, 3), model.frequency_trans_rad_s),
            (slice(3, 6), model.frequency_rot_rad_s),
        ):
            response = free_response(frequency, model.damping_ratio, float(step_s))
            error[axes], rate[axes] = response @ np.stack([error[axes], rate[axes]])
        velocity = reference + rate
    return error, velocity
