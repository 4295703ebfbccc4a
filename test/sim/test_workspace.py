# SPDX-License-Identifier: Apache-2.0
"""The box that the reference stays in, through the control host on the simulated FR3."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from host_rig import HostRig, speed

from vla_ros.control.config import ControlConfig
from vla_ros.errors import ConfigError
from vla_ros.sim.scene import build_scene, describe_scene, save_model
from vla_ros.sim.tasks import apply_layout, sample_layout
from vla_ros.types import ControlMode

pytestmark = pytest.mark.sim

MARGIN_M = 0.02
TICK_S = 1e-3
FAR_M = 1.0


class BoxRig(HostRig):
    """A host whose arm rests at ``start_m`` [m], in the frame of the base."""

    def __init__(self, path: Path, layout: list[float], config: ControlConfig) -> None:
        super().__init__(path, config)
        self.plant.request_reset(layout)
        self.run(0.3)
        self.start_m = np.array(self.states[0]["ref_position"])
        self.states.clear()

    def follow(self, shifts_m: np.ndarray, period_s: float = 0.02) -> list[dict]:
        """Send targets so far from the start; return the states of every tick."""
        self.grant(source="topic")
        self.run(TICK_S)
        quat = self.host.state()["ref_quat_xyzw"]
        states = []
        for shift in shifts_m:
            assert self.host.set_target_pose(list(self.start_m + shift), quat) == ""
            states += self.run(period_s)
        return states


class Rigs:
    """Makes one rig after the other, with walls so far [m] from where the arm starts."""

    def __init__(self, path: Path, layout: list[float]) -> None:
        self._path, self._layout, self._rig = path, layout, None
        self._start_m = self._make(ControlConfig()).start_m

    def make(self, low_m=(FAR_M,) * 3, high_m=(FAR_M,) * 3) -> BoxRig:
        low, high = self._start_m - low_m, self._start_m + high_m
        return self._make(
            ControlConfig(
                workspace_low_m=tuple(low),
                workspace_high_m=tuple(high),
                workspace_margin_m=MARGIN_M,
            )
        )

    def _make(self, config: ControlConfig) -> BoxRig:
        self.close()
        self._rig = BoxRig(self._path, self._layout, config)
        return self._rig

    def close(self) -> None:
        if self._rig is not None:
            self._rig.close()
        self._rig = None


@pytest.fixture(scope="module")
def scene(tmp_path_factory) -> tuple[Path, list[float]]:
    model = build_scene()
    path = tmp_path_factory.mktemp("scene") / "scene.mjb"
    save_model(model, path)
    return path, list(apply_layout(describe_scene(model), sample_layout(1)))


@pytest.fixture
def rigs(scene) -> Iterator[Rigs]:
    rigs = Rigs(*scene)
    yield rigs
    rigs.close()


def positions(states: list[dict]) -> np.ndarray:
    return np.array([s["ref_position"] for s in states])


def twists(states: list[dict]) -> np.ndarray:
    return np.array([s["ref_twist"] for s in states])


def line(to_m, duration_s: float, from_m=(0.0, 0.0, 0.0)) -> np.ndarray:
    """Targets on a straight line, one every 20 ms."""
    part = np.linspace(0, 1, round(duration_s / 0.02))[:, None]
    return np.array(from_m) + part * (np.array(to_m) - np.array(from_m))


def assert_continuous(rig: HostRig) -> None:
    """Position moves as the twist says and the twist has no step."""
    moved, twist = np.diff(positions(rig.states), axis=0) / TICK_S, twists(rig.states)[:, :3]
    assert np.abs(moved - 0.5 * (twist[1:] + twist[:-1])).max() < 5e-3
    fastest = rig.config.max_speed_m_s
    assert np.linalg.norm(moved, axis=1).max() <= fastest + 1e-6
    # Acceleration of the targets' path, and v² / margin where it is turned into the wall.
    allowed = 2 * rig.config.target_max_acceleration_m_s2 + fastest**2 / MARGIN_M
    assert np.abs(np.diff(twist, axis=0)).max() < allowed * TICK_S


def test_reference_never_leaves_the_box(rigs: Rigs) -> None:
    rig = rigs.make(low_m=(0.04, 0.06, 0.05), high_m=(0.05, 0.04, 0.06))
    random = np.random.default_rng(3)
    # Two corners behind opposite corners of the box, and whatever is between and behind.
    corners = np.vstack([[[0.15] * 3, [-0.15] * 3], random.uniform(-0.2, 0.2, (6, 3))])
    path = [line(b, 1.0, a) for a, b in itertools.pairwise(corners)]
    states = rig.follow(np.concatenate([line(corners[0], 1.0), *path]))
    low, high = np.array(rig.config.workspace_low_m), np.array(rig.config.workspace_high_m)
    reached = positions(states)
    assert (reached > low).all()
    assert (reached < high).all()
    # It was tried in earnest: every wall was come close to.
    assert (reached.min(axis=0) < low + 1e-3).all()
    assert (reached.max(axis=0) > high - 1e-3).all()
    assert_continuous(rig)


def test_within_the_last_margin_the_reference_is_bent_as_stated_and_nowhere_else(
    rigs: Rigs,
) -> None:
    shifts = line((0.15, -0.1, 0.05), 1.5)
    free = rigs.make().follow(shifts)
    rig = rigs.make(high_m=(0.05, FAR_M, FAR_M))
    boxed = rig.follow(shifts)
    wall = rig.config.workspace_high_m[0]
    x = positions(free)[:, 0]
    slope = np.where(x > wall - MARGIN_M, np.exp(-(x - wall + MARGIN_M) / MARGIN_M), 1.0)
    bent = np.where(x > wall - MARGIN_M, wall - MARGIN_M * slope, x)
    assert (slope < 1).any()
    assert (slope == 1).any()
    np.testing.assert_allclose(positions(boxed)[:, 0], bent, atol=1e-9)
    np.testing.assert_allclose(twists(boxed)[:, 0], slope * twists(free)[:, 0], atol=1e-9)
    np.testing.assert_allclose(positions(boxed)[:, 1:], positions(free)[:, 1:], atol=1e-9)
    np.testing.assert_allclose(twists(boxed)[:, 1:], twists(free)[:, 1:], atol=1e-9)


def test_target_outside_is_followed_along_the_wall_and_back(rigs: Rigs) -> None:
    rig = rigs.make(high_m=(0.05, FAR_M, FAR_M))
    out = rig.follow(line((0.2, 0.0, 0.0), 1.0))
    along = rig.follow(line((0.2, 0.15, 0.0), 1.0, (0.2, 0.0, 0.0)))
    back = rig.follow(line((0.0, 0.15, 0.0), 1.0, (0.2, 0.15, 0.0)))
    rest = rig.follow(np.repeat([[0.0, 0.15, 0.0]], 25, axis=0))
    wall = rig.config.workspace_high_m[0]
    # Far behind the wall the component into it is gone, the one along it is not.
    moving = slice(500, 1000)
    assert np.abs(positions(along)[moving, 0] - wall).max() < 1e-4
    assert np.abs(twists(along)[moving, 0]).max() < 1e-3
    np.testing.assert_allclose(twists(along)[moving, 1], 0.15, atol=0.01)
    assert all(s["mode"] == ControlMode.TRACK for s in out + along + back + rest)
    np.testing.assert_allclose(positions(rest)[-1], rig.start_m + np.array([0, 0.15, 0]), atol=1e-3)
    assert_continuous(rig)
    # The arm itself lags and has friction: it stays at the wall within its tracking error.
    assert max(s["position"][0] for s in rig.states) < wall + 0.01


def test_rows_of_a_segment_stay_inside_too_and_the_hold_is_at_the_wall(rigs: Rigs) -> None:
    rig = rigs.make(high_m=(FAR_M, 0.06, FAR_M))
    rig.grant()
    rig.send(velocity=(0.0, 0.3, 0.0), duration_s=0.6)
    states = rig.run(1.5)
    wall = rig.config.workspace_high_m[1]
    assert positions(states)[:, 1].max() < wall
    assert positions(states)[:, 1].max() > wall - 1e-3
    assert states[-1]["mode"] == ControlMode.HOLD
    assert speed(states[-1]) < 0.005
    assert wall - MARGIN_M < states[-1]["position"][1] < wall + 0.01


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"workspace_low_m": (0.5, 0.0, 0.0), "workspace_high_m": (0.4, 1.0, 1.0)}, r"high\[0\]"),
        ({"workspace_low_m": (0.0, 0.3, 0.0), "workspace_high_m": (1.0, 0.33, 1.0)}, r"high\[1\]"),
        ({"workspace_low_m": (0.0, 0.0)}, "three values"),
        ({"workspace_high_m": (1.0, 1.0, 1.0, 1.0)}, "three values"),
        ({"workspace_low_m": (0.0, 0.0, float("nan"))}, r"workspace_low_m\[2\]"),
        ({"workspace_high_m": (11.0, 1.0, 1.0)}, r"workspace_high_m\[0\]"),
        ({"workspace_margin_m": 0.0}, "workspace_margin_m"),
        ({"workspace_margin_m": 0.3}, "workspace_margin_m"),
    ],
)
def test_box_that_is_none_is_refused_by_name(scene, settings, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        HostRig(scene[0], ControlConfig(**settings))
