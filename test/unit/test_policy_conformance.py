# SPDX-License-Identifier: Apache-2.0
"""One suite for every decoder; backends that break a rule fail the check that is for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from policy_stubs import (
    CAMERA,
    CONTRACT,
    DECODERS,
    SAMPLES,
    BlobSlow,
    EnergyDecoder,
    FlowDecoder,
    ParallelDecoder,
    observations,
    split,
)

from vla_ros.errors import ConfigError, InstructionError
from vla_ros.policies.base import Tensors
from vla_ros.policies.conformance.checks import CHECKS
from vla_ros.policies.conformance.planted import CHUNK_FAULTS, CorruptFastPolicy
from vla_ros.policies.conformance.subject import (
    Samples,
    SplitBackend,
    Subject,
    latent_of,
)
from vla_ros.policies.conformance.suite import check_backend
from vla_ros.policies.contract import (
    TensorForm,
)
from vla_ros.policies.features.cached_slow import CachedSlowPolicy
from vla_ros.policies.features.patch_mlp import PatchMlpConfig, PatchMlpEncoder
from vla_ros.policies.hooks.chain import HookChain
from vla_ros.policies.hooks.fast_policy import HookedFastPolicy, PlainExpert
from vla_ros.policies.hooks.residual import BoundedResidual
from vla_ros.policies.routing.base import Backbone
from vla_ros.policies.routing.dispatch import Dispatcher
from vla_ros.policies.routing.routers import FixedRouter
from vla_ros.policies.routing.slow_policy import InlineBackend, RoutedSlowPolicy
from vla_ros.types import ActionChunk, Latent, Observation


def routed() -> RoutedSlowPolicy:
    policies = (BlobSlow(), BlobSlow())
    dispatcher = Dispatcher(
        InlineBackend(policies[0]), InlineBackend(policies[1]), FixedRouter(Backbone.LARGE)
    )
    return RoutedSlowPolicy(policies, dispatcher, lambda: 0, lambda s: None)


def hooked() -> HookedFastPolicy:
    return HookedFastPolicy(PlainExpert(FlowDecoder()), HookChain(BoundedResidual()))


class PlaceDecoder(ParallelDecoder):
    """Goes to the place that a patch encoder found."""

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        place = np.asarray(latent.tensors["places"], dtype=float)[0, 0]
        tensors = {"goal": np.array([0.3 + 0.3 * place[0], 0.3 * place[1] - 0.16, 0.1])}
        return super().decode(replace(latent, tensors=tensors), observation, now_ns)


def cached() -> CachedSlowPolicy:
    config = PatchMlpConfig(patch_px=8, width=8, layers=1, features=8)
    return CachedSlowPolicy(PatchMlpEncoder((CAMERA,), config))


CACHED_CONTRACT = replace(
    CONTRACT,
    latent={
        "tokens": TensorForm((1, 2, 8), "float32"),
        "places": TensorForm((1, 2, 2), "float32"),
        "shares": TensorForm((1, 2), "float32"),
    },
)

# What composes policies must be a policy by the same rules.
COMPOSED: dict[str, Subject] = {
    "hooked": split(hooked),
    "routed": split(ParallelDecoder, routed),
    "cached": split(PlaceDecoder, cached, CACHED_CONTRACT),
}


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("subject", [*DECODERS.values(), *COMPOSED.values()], ids=lambda s: s.name)
def test_every_decoder_passes_every_check(subject: Subject, check: str) -> None:
    report = check_backend(subject, SAMPLES, only=[check])
    assert report.passed, report.text()


def test_the_energy_decoder_takes_more_steps_to_a_goal_farther_away() -> None:
    assert len(DECODERS) >= 6
    decoder, observation = EnergyDecoder(), observations()[0]
    for away_m in (0.001, 0.3):
        goal = observation.state.T_base_ee[:3, 3] + away_m
        latent = latent_of(observation, {"goal": goal.astype(np.float32)})
        decoder.decode(latent, observation, observation.state.tick_ns)
    assert decoder.steps[0] < decoder.steps[1]


class Careless(ParallelDecoder):
    """Checks nothing of what it gets."""

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        latent = replace(latent, tensors={"goal": np.zeros(3), **latent.tensors})
        goal = np.nan_to_num(np.asarray(latent.tensors["goal"], dtype=float).reshape(-1)[:3])
        tensors = {**latent.tensors, "goal": goal}
        return super().decode(replace(latent, tensors=tensors), observation, now_ns)


class Writing(BlobSlow):
    def encode(self, observation: Observation) -> Tensors:
        tensors = super().encode(observation)
        observation.frames[CAMERA].rgb[0, 0] ^= 1
        return tensors


class Forgetless(BlobSlow):
    def reset(self) -> None:
        pass


class Moody(ParallelDecoder):
    born = 0

    def __init__(self) -> None:
        Moody.born += 1
        self._offset = 1e-6 * Moody.born

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        chunk = super().decode(latent, observation, now_ns)
        return replace(chunk, positions=chunk.positions + self._offset)


class Growing(BlobSlow):
    def encode(self, observation: Observation) -> Tensors:
        tensors = super().encode(observation)
        return {**tensors, "history": np.zeros(int(tensors["step"][0]), dtype=np.float32)}


class Ageless(BlobSlow):
    max_age_s = float("inf")


class Picky(BlobSlow):
    def check_instruction(self, instruction: str) -> None:
        if "blue" in instruction:
            raise InstructionError("say 'the red one'")


class Crashing(BlobSlow):
    """Raises what is not ours when a camera is missing."""

    def encode(self, observation: Observation) -> Tensors:
        return {"goal": observation.frames[CAMERA].rgb.mean(axis=(0, 1)).astype(np.float32)}


def corrupt(fault: str) -> Callable[[], CorruptFastPolicy]:
    return lambda: CorruptFastPolicy(ParallelDecoder(), CHUNK_FAULTS[fault])


def bare(make_slow: Callable[[], object], make_fast: Callable[[], object]) -> SplitBackend:
    """A backend without its contract."""
    return SplitBackend("bare", make_slow, make_fast)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("subject", "check", "message"),
    [
        (bare(BlobSlow, Careless), "bad_latents_are_refused", "missing tensor goal: was taken"),
        (bare(BlobSlow, ParallelDecoder), "bad_latents_are_refused", "raised KeyError"),
        (bare(Crashing, Careless), "bad_observations_are_refused", "missing camera"),
        (bare(Writing, ParallelDecoder), "inputs_are_left_alone", "image scene_camera"),
        (bare(Forgetless, ParallelDecoder), "reset_forgets", ""),
        (bare(BlobSlow, Moody), "answers_are_repeatable", "differ at call 0"),
        (bare(Growing, ParallelDecoder), "latents_are_sound", "change from call to call"),
        (bare(Ageless, ParallelDecoder), "describes_itself", "max_age_s"),
        (bare(Picky, ParallelDecoder), "describes_itself", "does not understand 'the blue one'"),
        (bare(BlobSlow, corrupt("NaN in a row")), "rows_are_sound", "positions are not finite"),
        (bare(BlobSlow, corrupt("too few rows")), "rows_are_sound", "must have 8 rows"),
        (bare(BlobSlow, corrupt("rows not in metres")), "the_executor_runs_it", "below 3 m/s"),
        (bare(BlobSlow, corrupt("wrong shape of rows")), "rows_are_sound", "shape (8, 3)"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_backend_that_breaks_a_rule_fails_its_check(
    subject: Subject, check: str, message: str
) -> None:
    if check == "reset_forgets":  # what is not forgotten must show in the rows
        subject = bare(Forgetless, CountingDecoder)
    report = check_backend(subject, SAMPLES, only=[check])
    assert not report.passed
    assert message in report.failures[check]
    assert report.failures[check] in report.text()


class CountingDecoder(ParallelDecoder):
    """Rows depend on how often the slow half was called."""

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        chunk = super().decode(latent, observation, now_ns)
        step = 1e-4 * float(np.asarray(latent.tensors["step"])[0])
        return replace(chunk, positions=chunk.positions + step)


def test_unknown_checks_and_too_few_samples_are_refused() -> None:
    with pytest.raises(ConfigError, match="check must be one of"):
        check_backend(DECODERS["flow"], SAMPLES, only=["taste"])
    with pytest.raises(ConfigError, match="two observations at least"):
        Samples(observations=observations(1), other_instruction="x")
