# SPDX-License-Identifier: Apache-2.0
"""The whole stack but ROS, in virtual time."""

import dataclasses

import numpy as np
import pytest

from vla_ros.errors import ConfigError, PolicyError
from vla_ros.sim.events import EventConfig
from vla_ros.sim.lockstep import LockstepConfig, LockstepRunner
from vla_ros.sim.rig.delays import DelayConfig

pytestmark = pytest.mark.sim


def run(seed, instruction, goal=None, **options):
    frames = options.pop("filter_frames", None)
    runner = LockstepRunner(LockstepConfig(**options), filter_frames=frames)
    try:
        return runner.run(seed, instruction, goal)
    finally:
        runner.close()


@pytest.mark.parametrize("slow_latency_ms", [0.0, 500.0, 2000.0])
def test_cube_ends_in_the_bowl_at_any_slow_latency(slow_latency_ms):
    result = run(3, "put the red cube in the cyan bowl", slow_latency_ms=slow_latency_ms)
    assert result.success, result
    assert result.age_error_ms_max < 1.0
    assert result.rows_after_expiry == 0
    assert result.latent_age_ms_p50 >= slow_latency_ms


def blank(frames):
    return {
        name: dataclasses.replace(f, rgb=np.zeros_like(f.rgb), depth_m=np.zeros_like(f.depth_m))
        for name, f in frames.items()
    }


@pytest.mark.parametrize("seed", range(5))
def test_blank_images_never_succeed(seed):
    asked = "put the red cube in the cyan bowl"
    result = run(seed, asked, max_duration_s=8.0, filter_frames=blank)
    assert not result.success
    assert result.reason == "the red cube is not in the cyan bowl"


@pytest.mark.parametrize("seed", range(5))
def test_another_colour_word_moves_another_cube(seed):
    asked = "put the blue cube in the cyan bowl"
    assert run(seed, asked, goal=asked).success
    wrong = run(seed, asked, goal="put the red cube in the cyan bowl", max_duration_s=8.0)
    assert not wrong.success


def test_policy_in_one_piece_acts_on_what_it_saw_a_latency_ago():
    config = LockstepConfig(slow_latency_ms=500.0, max_duration_s=3.0)
    runner = LockstepRunner(config, whole=True, strategy="naive_from_zero")
    try:
        result = runner.run(3, "put the red cube in the cyan bowl")
    finally:
        runner.close()
    assert 500.0 <= result.latent_age_ms_p50 <= 1100.0
    assert result.age_error_ms_max < 1.0


class SeesAll:
    """A fast policy that only notes which images it is shown."""

    name = "sees"
    chunk_rows = 16
    chunk_dt_ns = 33_333_333

    def __init__(self):
        self.ages_ms = []

    def reset(self):
        pass

    def decode(self, latent, observation, now_ns):
        frame = observation.frames["wrist_camera"]
        self.ages_ms.append(1e-6 * (now_ns - frame.capture_ns))
        raise PolicyError("only looking")


def test_fast_half_is_shown_fresh_images_whatever_the_latent_s_age():
    fast = SeesAll()
    runner = LockstepRunner(
        LockstepConfig(slow_latency_ms=1000.0, max_duration_s=2.5),
        fast_policy=fast,
        cameras=("scene_camera", "wrist_camera"),
    )
    try:
        runner.run(3, "put the red cube in the cyan bowl")
    finally:
        runner.close()
    assert len(fast.ages_ms) > 20
    assert max(fast.ages_ms) < 101.0


def test_same_seed_gives_the_same_episode():
    instruction = "put the green cube in the purple bowl"
    # As text: values that were not measured are not equal to themselves.
    assert repr(run(7, instruction)) == repr(run(7, instruction))


@pytest.mark.parametrize("kind", ["swap", "jump"])
def test_the_policy_follows_what_happens_on_the_way(kind):
    asked = "put the red cube in the cyan bowl"
    event = EventConfig(kind=kind, earliest_s=0.5, latest_s=0.5)
    result = run(900_003, asked, slow_latency_ms=300.0, max_duration_s=20.0, event=event)
    assert result.success, result
    assert (result.instruction != asked) == (kind == "swap")
    assert 0.8 <= result.event_s <= 0.85  # half a second after the first rows
    assert 0.3 <= result.reaction_s <= 0.75
    assert result.rows_after_expiry == 0
    again = run(900_003, asked, slow_latency_ms=300.0, max_duration_s=20.0, event=event)
    assert repr(result) == repr(again)


def test_delays_are_drawn_anew_for_every_seed_and_rows_never_expire_in_force():
    delay = DelayConfig(kind="lognormal", mean_ms=300.0, cv=0.6, drop_share=0.1)
    result = run(900_003, "put the red cube in the cyan bowl", delay=delay)
    assert result.success, result
    assert result.age_error_ms_max < 1.0
    assert result.rows_after_expiry == 0
    assert result.latent_age_ms_max > 600.0


def test_fixed_and_drawn_delays_exclude_each_other():
    with pytest.raises(ConfigError, match="slow_latency_ms"):
        LockstepConfig(slow_latency_ms=100.0, delay=DelayConfig())
