# SPDX-License-Identifier: Apache-2.0
"""Batches: frames, and for each some later steps of the same episode that act on its latent.

Batch ``i`` depends on the seed and ``i`` alone, so an interrupted training goes on as if it had not
been.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vla_ros.config_fields import check_fields, setting
from vla_ros.learning import state_vector as sv
from vla_ros.learning.dataset import Dataset
from vla_ros.learning.delays import LatencyHistogram
from vla_ros.learning.phrases import say_goal
from vla_ros.learning.split import SEEN_GOALS
from vla_ros.learning.views import SCENE_SHAPE, cell_of
from vla_ros.learning.vocabulary import Vocabulary
from vla_ros.policies.colors import BOWL_COLOURS, CUBE_COLOURS
from vla_ros.policies.instruction import PickPlaceGoal

_HELD_Z_M = 0.045  # a cube whose centre is higher is carried
_BOWL_Z_M = 0.02  # where the bowl's middle is looked for
_UNKNOWN_AGE_S = -1.0


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """What a batch consists of."""

    batch_frames: int = setting(16, "frames in a batch", ge=1, le=4096)
    frame_steps: int = setting(12, "steps of the expert for each frame", ge=1, le=256)
    turning_weight: float = setting(
        8.0, "how much likelier a step is at which the gripper changes", ge=1.0, le=100.0
    )
    near_weight: float = setting(
        2.0, "how much likelier a step is between hovering and lifting", ge=1.0, le=100.0
    )
    age_dropout: float = setting(0.15, "share of steps that are not told the age", ge=0.0, le=1.0)
    waited_share: float = setting(
        0.3, "share of first frames on which nobody has acted for a while", ge=0.0, le=1.0
    )
    paused_share: float = setting(
        0.0, "share of steps before which the arm is thought to have paused", ge=0.0, le=1.0
    )
    delays: LatencyHistogram = field(default_factory=LatencyHistogram)

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class Pointing:
    """A sentence for each of B frames and what it points at.

    Attributes:
        tokens: (B, L).
        places: (B, 2, 2) x, y [m] of what to pick and where to place.
        cells: (B, 2) the cells that show them, -1 outside.
        yaw: (B, 2) cosine and sine of four times the yaw of what to pick.
        is_free: (B,) the cube to pick is not carried.
    """

    tokens: NDArray[np.int64]
    places: NDArray[np.float32]
    cells: NDArray[np.int64]
    yaw: NDArray[np.float32]
    is_free: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """B frames and B x M steps, those of a frame one after the other.

    Attributes:
        scene, wrist: (B, ...) uint8 images that the slow trunk sees.
        asked: what the episode is about; other: something else that could be asked for.
        age_s: (B M, 1), negative where it is not told.
        state, fast_wrist, rows, goal, phase: what the expert sees and what is right.
        opens: (B M,) whether the gripper is to be open.
        anchors: (B M, 8) where things are at the step, as ``ExpertOutput.anchors``.
        is_free: (B M,) the cube to pick is not carried.
    """

    scene: NDArray[np.uint8]
    wrist: NDArray[np.uint8]
    asked: Pointing
    other: Pointing
    age_s: NDArray[np.float32]
    state: NDArray[np.float32]
    fast_wrist: NDArray[np.uint8]
    rows: NDArray[np.float32]
    goal: NDArray[np.float32]
    phase: NDArray[np.int64]
    opens: NDArray[np.float32]
    anchors: NDArray[np.float32]
    is_free: NDArray[np.bool_]


class BatchSampler:
    """Draws batches from the demonstrations numbered ``episodes``."""

    def __init__(
        self,
        data: Dataset,
        episodes: NDArray[np.int64],
        vocabulary: Vocabulary,
        config: SamplingConfig,
        seed: int,
    ) -> None:
        self._data, self._vocabulary, self._config, self._seed = data, vocabulary, config, seed
        spans = [np.arange(data.first_frame[e], data.first_frame[e + 1]) for e in episodes]
        self._frames = np.concatenate(spans)
        self._episode = np.repeat(episodes, [len(span) for span in spans])
        self._weight = self._step_weights()

    def batch(self, number: int) -> Batch:
        """Return batch ``number``."""
        c, a = self._config, self._data.arrays
        random = np.random.default_rng([self._seed, number])
        chosen = random.integers(len(self._frames), size=c.batch_frames)
        frames, episodes = self._frames[chosen], self._episode[chosen]
        drawn = [self._draw_steps(f, e, random) for f, e in zip(frames, episodes, strict=True)]
        steps = np.concatenate([s for s, _ in drawn])
        ages = np.concatenate([age for _, age in drawn])
        ages[random.random(len(ages)) < c.age_dropout] = _UNKNOWN_AGE_S
        scene = np.empty((c.batch_frames, *SCENE_SHAPE, 3), dtype=np.uint8)
        for i, frame in enumerate(frames):
            scene[i] = self._data.scene(int(frame))
        goals = a["goal"][episodes]
        at_steps = np.repeat(goals, c.frame_steps, axis=0)
        where = _look_up(a["cubes"][steps], a["bowls"][steps], at_steps)
        return Batch(
            scene=scene,
            wrist=a["wrist"][frames],
            asked=self._point(frames, goals, random),
            other=self._point(frames, self._other_goals(len(frames), random), random),
            age_s=ages.astype(np.float32)[:, None],
            state=a["state"][steps],
            fast_wrist=a["wrist"][a["newest_frame"][steps]],
            rows=a["rows"][steps],
            goal=a["way_goal"][steps],
            phase=a["phase"][steps],
            opens=(a["rows"][steps][:, 0, 5] > 0.04).astype(np.float32),
            anchors=np.column_stack([where[0][:, :3], _turned(where[0]), where[1]]),
            is_free=where[0][:, 2] < _HELD_Z_M,
        )

    def _draw_steps(
        self, frame: int, episode: int, random: np.random.Generator
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the steps that act on a frame and the age that its latent has then."""
        c, a, data = self._config, self._data.arrays, self._data
        first, last = data.first_step[episode], data.first_step[episode + 1]
        ages = a["step_s"][first:last].astype(np.float64) - float(a["frame_s"][frame])
        ages = np.where(ages > -1e-4, np.maximum(ages, 0.0), -1.0)
        weights = c.delays.density(ages) * self._weight[first:last]
        if not weights.sum() > 0.0:
            weights = (ages >= 0.0).astype(float)
            if not weights.any():
                weights[-1], ages[-1] = 1.0, 0.0
        chosen = random.choice(len(ages), size=c.frame_steps, p=weights / weights.sum())
        age = ages[chosen]
        # Before the episode nothing moved: its first image may as well be older. Pauses on the way
        # make ages tell less of how far the task has come: decision 0007.
        is_first = frame == data.first_frame[episode]
        for share in (c.waited_share if is_first else 0.0, c.paused_share):
            if share > 0.0:
                waited = random.random(c.frame_steps) < share
                age = age + waited * np.array([c.delays.draw(random) for _ in range(c.frame_steps)])
        return first + chosen, age

    def _step_weights(self) -> NDArray[np.float64]:
        c, a = self._config, self._data.arrays
        opens = a["rows"][:, 0, 5] > 0.04
        is_turning = opens != (a["state"][:, sv.GRIPPER_TARGET] > 0.04)
        is_near = a["state"][:, sv.EE_POSITION][:, 2] < 0.16
        weights = np.where(is_near, c.near_weight, 1.0)
        return np.where(is_turning, c.turning_weight, weights)

    def _point(
        self, frames: NDArray[np.int64], goals: NDArray[np.int64], random: np.random.Generator
    ) -> Pointing:
        a = self._data.arrays
        cube, bowl = _look_up(a["frame_cubes"][frames], a["frame_bowls"][frames], goals)
        sentences = [
            say_goal(PickPlaceGoal(CUBE_COLOURS[c], BOWL_COLOURS[b]), random) for c, b in goals
        ]
        return Pointing(
            tokens=np.concatenate([self._vocabulary.encode(text) for text in sentences]),
            places=np.stack([cube[:, :2], bowl[:, :2]], axis=1),
            cells=np.stack([cell_of(cube[:, :3]), cell_of(bowl)], axis=1),
            yaw=_turned(cube),
            is_free=cube[:, 2] < _HELD_Z_M,
        )

    def _other_goals(self, n: int, random: np.random.Generator) -> NDArray[np.int64]:
        """Return goals (n, 2) drawn from those that are trained; never a held-out one."""
        seen = np.array(
            [
                (CUBE_COLOURS.index(g.cube_colour), BOWL_COLOURS.index(g.bowl_colour))
                for g in SEEN_GOALS
            ]
        )
        chosen: NDArray[np.int64] = seen[random.integers(len(seen), size=n)]
        return chosen


def _look_up(
    cubes: NDArray[np.float32], bowls: NDArray[np.float32], goals: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the cube (n, 4) x, y, z, yaw and the bowl (n, 3) of each goal (n, 2)."""
    each = np.arange(len(goals))
    bowl = bowls[each, goals[:, 1]]
    height = np.full((len(goals), 1), _BOWL_Z_M, dtype=np.float32)
    return cubes[each, goals[:, 0]], np.hstack([bowl, height])


def _turned(cube: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return cosine and sine (n, 2) of four times the yaw: a cube looks the same every quarter."""
    return np.stack([np.cos(4 * cube[:, 3]), np.sin(4 * cube[:, 3])], axis=1)
