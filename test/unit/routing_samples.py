# SPDX-License-Identifier: Apache-2.0
"""Two models in virtual time: a small one that fails on hard scenes, a large one that does not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from strategy_samples import make_observation

from vla_ros.clock import ManualClock
from vla_ros.errors import PolicyError
from vla_ros.policies.routing.base import Answer, RouteOutcome, Router, RouteRecord
from vla_ros.policies.routing.dispatch import DispatchConfig, Dispatcher
from vla_ros.types import Observation

MS = 1_000_000
SMALL_MS, LARGE_MS = 8.0, 152.0  # multiples of a tick


@dataclass(frozen=True)
class Scene:
    """One decision's truth: whether it is hard, and what each model would make of it."""

    number: int
    is_hard: bool
    clutter: float
    uncertainty: float
    small_succeeds: bool
    large_succeeds: bool


def draw_scenes(n: int, seed: int, hard_share: float = 0.25) -> list[Scene]:
    """Clutter and uncertainty tell of difficulty, but not surely."""
    rng = np.random.default_rng(seed)
    scenes = []
    for k in range(n):
        is_hard = bool(rng.random() < hard_share)
        scenes.append(
            Scene(
                number=k,
                is_hard=is_hard,
                clutter=float(rng.normal(8.0 if is_hard else 3.0, 1.5)),
                uncertainty=float(rng.normal(0.8 if is_hard else 0.2, 0.15)),
                small_succeeds=bool(rng.random() < (0.05 if is_hard else 0.97)),
                large_succeeds=bool(rng.random() < 0.97),
            )
        )
    return scenes


def observation_of(scene: Scene) -> Observation:
    return replace(make_observation(), instruction=str(scene.number))


class VirtualModel:
    """Answers ``duration_ms`` after it was asked; ``is_dead`` fails, ``is_hung`` never answers."""

    def __init__(self, name: str, scenes: list[Scene], duration_ms: float) -> None:
        self.name = name
        self.duration_ms = duration_ms
        self.is_dead = self.is_hung = self.refuses = False
        self.asked = 0
        self.dtype: type = np.float32
        self._scenes = scenes
        self._call: tuple[Scene, int] | None = None

    def begin(self, observation: Observation, now_ns: int) -> None:
        if self.refuses:
            raise PolicyError("connection refused")
        self.asked += 1
        scene = self._scenes[int(observation.instruction)]
        self._call = (scene, now_ns + round(self.duration_ms * MS))

    def poll(self, now_ns: int) -> Answer | None:
        if self.is_dead:
            raise PolicyError("connection closed")
        if self._call is None or self.is_hung or now_ns < self._call[1]:
            return None
        scene, _ = self._call
        self._call = None
        succeeds = scene.small_succeeds if self.name == "small" else scene.large_succeeds
        tensors = {"succeeds": np.array([succeeds], dtype=self.dtype)}
        return Answer(tensors, scene.uncertainty if self.name == "small" else None)

    def abandon(self) -> None:
        self._call = None


@dataclass
class World:
    """A dispatcher between the two models, called in steps of ``tick_ms``."""

    scenes: list[Scene]
    small: VirtualModel
    large: VirtualModel
    dispatcher: Dispatcher
    log: list[RouteRecord | RouteOutcome]
    now_ns: int = 1_000 * MS
    tick_ms: float = 4.0

    def ask(self, scene: Scene) -> tuple[bool, float]:
        """Return whether the answer is right and how long it took [ms]."""
        start_ns = self.now_ns
        self.dispatcher.begin(observation_of(scene), self.now_ns)
        while (answer := self.dispatcher.poll(self.now_ns)) is None:
            self.now_ns += round(self.tick_ms * MS)
        return bool(answer.tensors["succeeds"][0]), (self.now_ns - start_ns) / MS

    def ask_all(self) -> tuple[list[bool], list[float]]:
        answers = [self.ask(scene) for scene in self.scenes]
        return [a[0] for a in answers], [a[1] for a in answers]

    @property
    def records(self) -> list[RouteRecord]:
        return [entry for entry in self.log if isinstance(entry, RouteRecord)]

    @property
    def outcomes(self) -> list[RouteOutcome]:
        return [entry for entry in self.log if isinstance(entry, RouteOutcome)]


def make_world(router: Router, scenes: list[Scene], **settings: float) -> World:
    small = VirtualModel("small", scenes, SMALL_MS)
    large = VirtualModel("large", scenes, LARGE_MS)
    log: list[RouteRecord | RouteOutcome] = []
    dispatcher = Dispatcher(
        small,
        large,
        router,
        DispatchConfig(**settings),
        difficulty=lambda o: {"clutter": scenes[int(o.instruction)].clutter},
        log=log.append,
    )
    return World(scenes, small, large, dispatcher, log)


class WordCount:
    """A slow policy whose latent is the length of the sentence."""

    max_age_s = 1.0

    def __init__(self, name: str, clock: ManualClock, duration_ms: int) -> None:
        self.name, self._clock, self._duration_ms, self.resets = name, clock, duration_ms, 0

    def check_instruction(self, instruction: str) -> None:
        pass

    def reset(self) -> None:
        self.resets += 1

    def encode(self, observation: object) -> dict[str, np.ndarray]:
        self._clock.advance(self._duration_ms * MS)
        return {"by": np.array([len(self.name)])}
