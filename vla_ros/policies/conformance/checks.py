# SPDX-License-Identifier: Apache-2.0
"""The checks, one function each: it returns why a backend fails, or an empty text."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from vla_ros.errors import InstructionError, VlaRosError
from vla_ros.latency.codec import decode_tensors, encode_tensors
from vla_ros.latency.stamping import schema_hash
from vla_ros.policies.conformance.execution import Execution, execute_split, execute_whole
from vla_ros.policies.conformance.planted import (
    CHUNK_FAULTS,
    CorruptChunkPolicy,
    CorruptFastPolicy,
    Corruption,
    latent_faults,
    observation_faults,
    state_faults,
)
from vla_ros.policies.conformance.subject import (
    Samples,
    Session,
    SplitBackend,
    Subject,
    WholeBackend,
    contract_of,
    latent_of,
)
from vla_ros.policies.contract import (
    BackendContract,
    CheckedChunkPolicy,
    CheckedFastPolicy,
    CheckedSlowPolicy,
)
from vla_ros.types import ActionChunk, Observation

Check = Callable[[Subject, Samples], str]

_GOOD_STEPS = 1  # before a fault is planted, so that there are rows in force


def describes_itself(subject: Subject, samples: Samples) -> str:
    """Names, ages, rows and times are set; the instructions of the samples are understood."""
    rows, dt_ns = subject.time_grid
    if rows < 1 or dt_ns < 1:
        return f"rows and dt_ns must be positive, got {rows} and {dt_ns}"
    session = subject.start()
    if isinstance(subject, SplitBackend):
        slow = subject.make_slow()
        if not slow.name or not (0.0 < slow.max_age_s < math.inf):
            return f"name and max_age_s must be set, got {slow.name!r} and {slow.max_age_s}"
    for text in (samples.observations[0].instruction, samples.other_instruction):
        try:
            session.check_instruction(text)
        except InstructionError as error:
            return f"does not understand {text!r}: {error}"
    return ""


def latents_are_sound(subject: Subject, samples: Samples) -> str:
    """Latents are finite, keep names, types and shapes, and survive being sent."""
    session = subject.start()
    schema: int | None = None
    for observation in samples.observations:
        tensors = {n: np.asarray(v) for n, v in session.latent(observation).items()}
        for name, value in tensors.items():
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                return f"tensor {name!r} is not finite"
        back = decode_tensors(encode_tensors(tensors))
        if any(not np.array_equal(back[name], value) for name, value in tensors.items()):
            return "tensors differ after they were sent"
        if schema not in (None, schema_hash(tensors)):
            return "names, types or shapes of the latent change from call to call"
        schema = schema_hash(tensors)
    return ""


def rows_are_sound(subject: Subject, samples: Samples) -> str:
    """Rows have the number, times and types agreed on; an arm could run them."""
    contract, session = contract_of(subject, samples), subject.start()
    for observation in samples.observations:
        try:
            contract.check_chunk(session.answer(observation), observation.state.tick_ns)
        except VlaRosError as error:
            return str(error)
    return ""


def inputs_are_left_alone(subject: Subject, samples: Samples) -> str:
    """Images and state are as before."""
    session = subject.start()
    observation = samples.observations[0]
    before = _contents(observation)
    session.answer(observation)
    changed = [name for name, value in _contents(observation).items() if value != before[name]]
    return f"wrote into {', '.join(changed)}" if changed else ""


def answers_are_repeatable(subject: Subject, samples: Samples) -> str:
    """Two new instances, asked the same, answer the same to the last bit."""
    a, b = subject.start(), subject.start()
    for k, observation in enumerate(samples.observations):
        if not _same(a.answer(observation), b.answer(observation)):
            return f"two new instances differ at call {k}"
    return ""


def reset_forgets(subject: Subject, samples: Samples) -> str:
    """After a reset the answers are those of a new instance."""
    used, new = subject.start(), subject.start()
    for observation in samples.observations:
        used.answer(observation)
    used.reset()
    for k, observation in enumerate(samples.observations):
        if not _same(used.answer(observation), new.answer(observation)):
            return f"differs from a new instance at call {k} after a reset"
    return ""


def bad_observations_are_refused(subject: Subject, samples: Samples) -> str:
    """Missing cameras, images of another size and states that are not finite raise our errors."""
    good = samples.observations[0]
    faults = [*observation_faults(good, tuple(samples.cameras)), *state_faults(good)]
    for name, observation in faults:
        problem = _must_refuse(subject.start(), observation, name)
        if problem:
            return problem
    return ""


def bad_latents_are_refused(subject: Subject, samples: Samples) -> str:
    """The fast half refuses latents of another schema and such that are not finite."""
    if isinstance(subject, WholeBackend):
        return ""
    observation = samples.observations[0]
    tensors = {n: np.asarray(v) for n, v in subject.start().latent(observation).items()}
    state_only = replace(observation, frames={})
    for name, broken in latent_faults(tensors):
        fast, latent = subject.make_fast(), latent_of(observation, broken)
        try:
            fast.decode(latent, state_only, observation.state.tick_ns)
        except VlaRosError:
            continue
        except Exception as error:
            return f"{name}: raised {type(error).__name__} in place of an error of vla_ros"
        return f"{name}: was taken"
    return ""


def the_executor_runs_it(subject: Subject, samples: Samples) -> str:
    """Every observation gives a segment with rows in order, by the executor that runs it live."""
    result = _execute(subject, samples.observations, None, contract_of(subject, samples))
    if result.refusals:
        return f"refused: {result.refusals[0]}"
    for segment in result.segments:
        assert segment is not None
        if not (np.diff(segment.target_ns) > 0).all():
            return "times of committed rows do not increase"
    return ""


def faults_are_not_committed(subject: Subject, samples: Samples) -> str:
    """Rows with a planted fault are refused before anything of them is committed."""
    contract = contract_of(subject, samples)
    for name, corruption in CHUNK_FAULTS.items():
        result = _execute(subject, samples.observations, corruption, contract)
        if result.committed != _GOOD_STEPS:
            return f"{name}: {result.committed - _GOOD_STEPS} steps were committed"
    return ""


CHECKS: dict[str, Check] = {
    check.__name__: check
    for check in (
        describes_itself,
        latents_are_sound,
        rows_are_sound,
        inputs_are_left_alone,
        answers_are_repeatable,
        reset_forgets,
        bad_observations_are_refused,
        bad_latents_are_refused,
        the_executor_runs_it,
        faults_are_not_committed,
    )
}


def _execute(
    subject: Subject,
    observations: tuple[Observation, ...],
    corruption: Corruption | None,
    contract: BackendContract,
) -> Execution:
    if isinstance(subject, WholeBackend):
        policy = subject.make()
        if corruption is not None:
            policy = CorruptChunkPolicy(policy, corruption, _GOOD_STEPS)
        return execute_whole(CheckedChunkPolicy(policy, contract), observations)
    fast = subject.make_fast()
    if corruption is not None:
        fast = CorruptFastPolicy(fast, corruption, _GOOD_STEPS)
    slow = CheckedSlowPolicy(subject.make_slow(), contract)
    return execute_split(slow, CheckedFastPolicy(fast, contract), observations)


def _must_refuse(session: Session, observation: Observation, name: str) -> str:
    try:
        session.answer(observation)
    except VlaRosError:
        return ""
    except Exception as error:
        return f"{name}: raised {type(error).__name__} in place of an error of vla_ros"
    return f"{name}: was answered"


def _same(a: ActionChunk, b: ActionChunk) -> bool:
    return (
        (a.target0_ns, a.dt_ns) == (b.target0_ns, b.dt_ns)
        and np.array_equal(a.positions, b.positions)
        and np.array_equal(a.quats_xyzw, b.quats_xyzw)
        and np.array_equal(a.gripper_width_m, b.gripper_width_m)
    )


def _contents(observation: Observation) -> dict[str, bytes]:
    state = observation.state
    images = {f"image {n}": frame.rgb.tobytes() for n, frame in observation.frames.items()}
    names = ("q", "dq", "tau", "T_base_ee", "twist_base", "T_base_ref", "twist_ref_base")
    return images | {name: getattr(state, name).tobytes() for name in names}
