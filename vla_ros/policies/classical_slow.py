# SPDX-License-Identifier: Apache-2.0
"""The classical slow policy: reads a sentence and one RGB-D image, says where to pick and place.

It stands in for a vision-language model: same interface, same tensors' role, no weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError, PolicyError
from vla_ros.perception import tabletop, tick_code
from vla_ros.perception.tabletop import ColouredPoints, Detection, Workspace
from vla_ros.policies.base import Tensors
from vla_ros.policies.colors import COLOURS
from vla_ros.policies.instruction import PickPlaceGoal, parse_instruction
from vla_ros.types import CameraFrame, Observation, RobotState

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ClassicalSlowConfig:
    """What the policy knows beforehand.

    Attributes:
        camera: name of the calibrated camera with depth.
        max_age_s: age of the image beyond which the latent must not be used [s]; long, because on
            this table only the robot moves things.
        cube_side_m, bowl_height_m: sizes [m].
        bowl_radius_m: inner and outer radius of the wall [m].
        keep_confidence: a detection at least this good replaces what is remembered.
        weak_confidence: a detection at least this good counts where nothing better is known.
        moved_m: a weak detection farther than this from the remembered place means "moved" [m].
        released_width_m: a gripper wider than this holds no cube [m].
        released_distance_m: a TCP farther than this from the cube does not hold it [m].
    """

    camera: str = "scene_camera"
    max_age_s: float = 6.0
    cube_side_m: float = 0.04
    bowl_radius_m: tuple[float, float] = (0.068, 0.072)
    bowl_height_m: float = 0.045
    keep_confidence: float = 0.6
    weak_confidence: float = 0.3
    moved_m: float = 0.03
    released_width_m: float = 0.048
    released_distance_m: float = 0.08
    workspace: Workspace = field(default_factory=Workspace)

    def __post_init__(self) -> None:
        for name, low, high in (
            ("max_age_s", 0.05, 60.0),
            ("cube_side_m", 0.01, 0.08),
            ("bowl_height_m", 0.01, 0.2),
            ("keep_confidence", 0.0, 1.0),
            ("weak_confidence", 0.0, self.keep_confidence),
            ("moved_m", 0.0, 0.2),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ConfigError(f"{name} must be {low}..{high}, got {value}")
        inner, outer = self.bowl_radius_m
        if not 0.03 <= inner <= outer <= 0.2:
            raise ConfigError(
                f"bowl_radius_m must be (inner, outer), 0.03..0.2, got {(inner, outer)}"
            )


class ClassicalSlowPolicy:
    """Colour segmentation, depth and a memory of what was last seen clearly.

    A hidden object keeps its last clear place and the time at which it was seen; one whose place
    is seen to be empty is forgotten. An image without any contrast gives no confidence at all.
    """

    name = "classical"

    def __init__(self, config: ClassicalSlowConfig | None = None) -> None:
        self._config = config or ClassicalSlowConfig()
        self.max_age_s = self._config.max_age_s
        self.cameras = (self._config.camera,)
        self._cube: Detection | None = None
        self._bowl: Detection | None = None
        self._goal: PickPlaceGoal | None = None

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError``, naming what is allowed, if it is not understood."""
        parse_instruction(instruction)

    def reset(self) -> None:
        """Forget everything seen."""
        self._cube = self._bowl = self._goal = None

    def encode(self, observation: Observation) -> Tensors:
        """Return pick and place, their confidences and times, and the tick code of the image.

        Raises:
            PolicyError: if the camera's image or its depth is missing.
            InstructionError: if the instruction is not understood.
        """
        frame = self._frame_of(observation)
        goal = parse_instruction(observation.instruction)
        if goal != self._goal:
            self.reset()
            self._goal = goal
        is_blank = int(np.ptp(frame.rgb[: -tick_code.CODE_ROWS : 4, ::4])) < 8
        if not is_blank:
            self._look(frame, goal)
        return self._tensors(frame, observation.state, is_blank)

    def _frame_of(self, observation: Observation) -> CameraFrame:
        frame = observation.frames.get(self._config.camera)
        if frame is None:
            raise PolicyError(
                f"no image of {self._config.camera!r}; got {sorted(observation.frames) or 'none'}"
            )
        if frame.depth_m is None:
            raise PolicyError(f"the image of {frame.name!r} has no depth, which this policy needs")
        return frame

    def _look(self, frame: CameraFrame, goal: PickPlaceGoal) -> None:
        """Update what is remembered of the two objects of the goal."""
        seen = tabletop.find_coloured_points(frame, self._config.workspace)
        cube = self._detect_cube(frame, seen, goal.cube_colour)
        bowl = self._detect_bowl(frame, seen, goal.bowl_colour)
        self._cube = self._remember(frame, self._cube, cube, self._cube_surface)
        self._bowl = self._remember(frame, self._bowl, bowl, self._bowl_surface)

    def _detect_cube(
        self, frame: CameraFrame, seen: ColouredPoints, colour: str
    ) -> Detection | None:
        points = seen.of_hue(COLOURS[colour].hue_deg, COLOURS[colour].hue_tolerance_deg)
        side = self._config.cube_side_m
        fit = tabletop.fit_cube(points, seen.camera, side)
        if fit is None:
            return None
        centre, yaw = fit
        expected = tabletop.silhouette_area_px(frame, tabletop.cube_corners(centre, yaw, side))
        return Detection(
            position=centre,
            yaw=yaw,
            confidence=min(1.0, len(points) / max(expected, 1.0)),
            seen_ns=frame.capture_ns,
        )

    def _detect_bowl(
        self, frame: CameraFrame, seen: ColouredPoints, colour: str
    ) -> Detection | None:
        points = seen.of_hue(COLOURS[colour].hue_deg, COLOURS[colour].hue_tolerance_deg)
        radius, height = self._config.bowl_radius_m, self._config.bowl_height_m
        rim = tabletop.fit_bowl(points, seen.camera, radius, height)
        if rim is None:
            return None
        rings = [tabletop.ring_points(rim[:2], radius[1], z) for z in (0.0, height)]
        expected = tabletop.silhouette_area_px(frame, np.vstack(rings))
        return Detection(
            position=rim,
            yaw=0.0,
            confidence=min(1.0, len(points) / max(expected, 1.0)),
            seen_ns=frame.capture_ns,
        )

    def _remember(
        self,
        frame: CameraFrame,
        known: Detection | None,
        seen: Detection | None,
        surface_of: Callable[[Detection], Array],
    ) -> Detection | None:
        """Choose between what is remembered and what is seen now."""
        config = self._config
        if seen is not None and seen.confidence >= config.keep_confidence:
            return seen
        if seen is not None and seen.confidence < config.weak_confidence:
            seen = None
        if known is None:
            return seen
        if seen is not None and np.linalg.norm(seen.position - known.position) > config.moved_m:
            return seen
        if tabletop.fraction_seen_through(frame, surface_of(known)) > 0.6:
            return seen
        return known

    def _cube_surface(self, cube: Detection) -> Array:
        """Return points (5, 3) of the top face."""
        corners = tabletop.cube_corners(cube.position, cube.yaw, 0.7 * self._config.cube_side_m)
        top = corners[4:] + np.array([0.0, 0.0, 0.15 * self._config.cube_side_m])
        return np.vstack([top, top.mean(axis=0)])

    def _bowl_surface(self, bowl: Detection) -> Array:
        """Return points (24, 3) of the rim."""
        z = self._config.bowl_height_m
        radius = sum(self._config.bowl_radius_m) / 2
        return tabletop.ring_points(bowl.position[:2], radius, z)

    def _tensors(self, frame: CameraFrame, state: RobotState, is_blank: bool) -> Tensors:
        cube, bowl = self._cube or _UNSEEN, self._bowl or _UNSEEN
        trust = 0.0 if is_blank else 1.0
        return {
            "pick_position": cube.position.copy(),
            "pick_yaw": np.array([cube.yaw]),
            "pick_confidence": np.array([trust * cube.confidence]),
            "pick_seen_ns": np.array([cube.seen_ns], dtype=np.int64),
            "place_position": bowl.position.copy(),
            "place_confidence": np.array([trust * bowl.confidence]),
            "place_seen_ns": np.array([bowl.seen_ns], dtype=np.int64),
            "placed": np.array([trust * self._placed_belief(state)]),
            "tick_code": tick_code.strip_of(frame.rgb),
        }

    def _placed_belief(self, state: RobotState) -> float:
        """Return 1 if the cube was last seen low inside the bowl and the gripper let go of it."""
        if self._cube is None or self._bowl is None:
            return 0.0
        offset = self._cube.position - self._bowl.position
        is_inside = np.linalg.norm(offset[:2]) < self._config.bowl_radius_m[0] and offset[2] < 0.0
        distance = np.linalg.norm(state.T_base_ee[:3, 3] - self._cube.position)
        is_released = (
            state.gripper_width_m > self._config.released_width_m
            or distance > self._config.released_distance_m
        )
        return 1.0 if is_inside and is_released else 0.0


_UNSEEN = Detection(position=np.zeros(3), yaw=0.0, confidence=0.0, seen_ns=0)
