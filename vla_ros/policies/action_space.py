# SPDX-License-Identifier: Apache-2.0
"""What the columns of a network's actions mean, and the way from them to rows and back.

Columns, left to right: position (3) [m], rotation (6, 2, 4 or 3), gripper width (1) [m] if any.

    rotation_6d      the first two columns of the rotation matrix, one after the other (6)
    yaw_sin_cos      sine and cosine of the yaw of a hand that points straight down (2)
    quat_xyzw        (4)
    rotation_vector  (3) [rad]

``relative_base``: p = p_anchor + d, R = D R_anchor, along the axes of base. ``relative_anchor``:
T_base_row = T_base_anchor D, along the axes of the anchor. ``absolute``: the pose in base. A yaw is
absolute, or relative to the anchor's (``relative_base``); a tilt of the anchor does not go on.

Source of the 6D representation: Zhou et al., arXiv 1812.07035.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vla_ros import rotations
from vla_ros.clock import NS_PER_S
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError, PolicyError, ShapeError
from vla_ros.geometry import rotation_about_z
from vla_ros.types import ActionChunk, RobotState

Array = NDArray[np.float64]

ANCHORS = ("reference", "measured")
MODES = ("absolute", "relative_base", "relative_anchor")
ROTATION_COLUMNS = {"rotation_6d": 6, "yaw_sin_cos": 2, "quat_xyzw": 4, "rotation_vector": 3}
GRIPPERS = ("width_m", "none")

_POINTING_DOWN = np.diag([1.0, -1.0, -1.0])
_SHORTEST = 0.05  # of a direction that a network gives; below, where it points is chance


@dataclass(frozen=True, kw_only=True)
class ActionSpace:
    """Rows of a chunk and the meaning of their columns."""

    rows: int = setting(16, "rows of a chunk, H", ge=1, le=1000)
    execution_rows: int = setting(
        0, "of them those to execute before new ones are there; 0: not said", ge=0, le=1000
    )
    dt_s: float = setting(1.0 / 30.0, "from one row to the next", unit="s", ge=1e-3, le=2.0)
    first_row_s: float = setting(
        0.0, "from the robot state to the time of row 0", unit="s", ge=0.0, le=2.0
    )
    anchor: str = setting(
        "reference",
        "pose that relative columns begin at: where the arm is asked to be, or where it is",
        choices=ANCHORS,
    )
    position: str = setting("relative_base", "what the position is relative to", choices=MODES)
    rotation: str = setting("absolute", "what the rotation is relative to", choices=MODES)
    rotation_format: str = setting(
        "rotation_6d", "columns of the rotation", choices=tuple(ROTATION_COLUMNS)
    )
    gripper: str = setting("width_m", "the last column, or none", choices=GRIPPERS)
    gripper_range_m: tuple[float, ...] = setting(
        (0.0, 0.08), "widths there are, smallest and largest", unit="m", ge=0.0, le=1.0
    )
    reach_m: float = setting(
        2.0, "rows farther from the anchor, or from base, are refused", unit="m", ge=0.01, le=100.0
    )
    done_threshold: float = setting(
        0.5, "output `done` from which the task counts as done", ge=0.0, le=1.0
    )

    def __post_init__(self) -> None:
        check_fields(self)
        if len(self.gripper_range_m) != 2 or self.gripper_range_m[0] >= self.gripper_range_m[1]:
            raise ConfigError(
                f"gripper_range_m must be [smallest, largest], got {list(self.gripper_range_m)}"
            )
        if self.execution_rows > self.rows:
            raise ConfigError(
                f"execution_rows must be at most rows ({self.rows}), got {self.execution_rows}"
            )
        if self.rotation_format == "yaw_sin_cos" and self.rotation == "relative_anchor":
            raise ConfigError(
                "rotation must be absolute or relative_base where only the yaw is given, "
                "got relative_anchor"
            )

    @property
    def columns(self) -> int:
        """Number of columns A."""
        return 3 + ROTATION_COLUMNS[self.rotation_format] + int(self.gripper != "none")

    @property
    def dt_ns(self) -> int:
        """Time between rows [ns]."""
        return round(self.dt_s * NS_PER_S)

    def anchor_of(self, state: RobotState) -> Array:
        """Return the anchor pose T_base_anchor (4, 4) of a robot state."""
        return state.T_base_ref if self.anchor == "reference" else state.T_base_ee

    def target0_ns(self, state: RobotState) -> int:
        """Return the time of row 0 of actions made from a state [ns]."""
        return state.tick_ns + round(self.first_row_s * NS_PER_S)

    def to_rows(self, actions: Array, state: RobotState, *, target0_ns: int) -> ActionChunk:
        """Return the rows that the columns (H, A) mean, as poses in base.

        A width a little outside the range is brought into it, as networks do not end exactly.

        Raises:
            PolicyError: if a row is out of reach, its rotation is none, or its width is far off.
        """
        values = np.asarray(actions, dtype=np.float64)
        if values.shape != (len(values), self.columns):
            raise ShapeError(f"actions must have shape (H, {self.columns}), got {values.shape}")
        T = self.anchor_of(state)
        moves = values[:, :3]
        distance = np.linalg.norm(moves, axis=1)
        if not np.all(distance <= self.reach_m):  # NaN too
            row = int(np.argmax(~(distance <= self.reach_m)))
            raise PolicyError(
                f"row {row} is {distance[row]:.3g} m away, at most {self.reach_m:g} m are believed"
            )
        if self.position == "relative_base":
            moves = T[:3, 3] + moves
        elif self.position == "relative_anchor":
            moves = T[:3, 3] + moves @ T[:3, :3].T
        R = self._matrices(values[:, 3 : 3 + ROTATION_COLUMNS[self.rotation_format]], T[:3, :3])
        return ActionChunk(
            target0_ns=target0_ns,
            dt_ns=self.dt_ns,
            positions=moves,
            quats_xyzw=rotations.from_matrices(R),
            gripper_width_m=self._widths(values, state),
        )

    def to_columns(self, rows: ActionChunk, state: RobotState) -> Array:
        """Return the columns (H, A) that mean these rows; a tilt is lost where only yaw is known.

        For labels of training data and for prefixes of chunks.
        """
        T = self.anchor_of(state)
        positions = rows.positions
        if self.position != "absolute":
            positions = positions - T[:3, 3]
        if self.position == "relative_anchor":
            positions = positions @ T[:3, :3]
        columns = [positions, self._rotation_columns(rows.quats_xyzw, T[:3, :3])]
        if self.gripper != "none":
            columns.append(rows.gripper_width_m[:, None])
        return np.hstack(columns)

    def _widths(self, values: Array, state: RobotState) -> Array:
        if self.gripper == "none":
            return np.full(len(values), state.gripper_target_m)
        low, high = self.gripper_range_m
        widths = values[:, -1]
        if not np.all((widths >= 2 * low - high) & (widths <= 2 * high - low)):
            raise PolicyError(
                f"gripper widths must be {low:g} to {high:g} m, got "
                f"{widths.min():.3g} to {widths.max():.3g} m"
            )
        return np.clip(widths, low, high)

    def _matrices(self, columns: Array, R_anchor: Array) -> Array:
        """Return the rotation matrices (H, 3, 3) in base of the rotation columns."""
        if self.rotation_format == "yaw_sin_cos":
            turns = _about_z(_unit(columns, "sine and cosine"))
            if self.rotation == "relative_base":
                turns = turns @ rotation_about_z(_yaw(R_anchor))
            return turns @ _POINTING_DOWN
        if self.rotation_format == "rotation_vector":
            R = rotations.to_matrices(rotations.exp(columns))
        elif self.rotation_format == "quat_xyzw":
            R = rotations.to_matrices(_unit(columns, "quaternion"))
        else:
            x = _unit(columns[:, :3], "first axis")
            y = columns[:, 3:] - np.sum(x * columns[:, 3:], axis=1, keepdims=True) * x
            y = _unit(y, "second axis")
            R = np.stack([x, y, np.cross(x, y)], axis=2)
        if self.rotation == "relative_base":
            R = R @ R_anchor
        elif self.rotation == "relative_anchor":
            R = R_anchor @ R
        return R

    def _rotation_columns(self, quats_xyzw: Array, R_anchor: Array) -> Array:
        """Return the rotation columns of orientations (H, 4) in base."""
        R = rotations.to_matrices(quats_xyzw)
        if self.rotation_format == "yaw_sin_cos":
            yaw = np.arctan2(R[:, 1, 0], R[:, 0, 0])
            if self.rotation == "relative_base":
                yaw = yaw - _yaw(R_anchor)
            return np.column_stack([np.sin(yaw), np.cos(yaw)])
        if self.rotation == "relative_base":
            R = R @ R_anchor.T
        elif self.rotation == "relative_anchor":
            R = R_anchor.T @ R
        if self.rotation_format == "rotation_6d":
            return np.hstack([R[:, :, 0], R[:, :, 1]])
        quats = rotations.from_matrices(R)
        return quats if self.rotation_format == "quat_xyzw" else rotations.log(quats)


def _yaw(R: Array) -> float:
    return math.atan2(float(R[1, 0]), float(R[0, 0]))


def _unit(vectors: Array, what: str) -> Array:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.all(length >= _SHORTEST):
        row = int(np.argmax(~(length[:, 0] >= _SHORTEST)))
        raise PolicyError(
            f"the {what} of row {row} has length {length[row, 0]:.2g}: it points nowhere"
        )
    unit: Array = vectors / length
    return unit


def _about_z(sin_cos: Array) -> Array:
    R = np.zeros((len(sin_cos), 3, 3))
    R[:, 0, 0] = R[:, 1, 1] = sin_cos[:, 1]
    R[:, 1, 0] = sin_cos[:, 0]
    R[:, 0, 1] = -sin_cos[:, 0]
    R[:, 2, 2] = 1.0
    return R
