# SPDX-License-Identifier: Apache-2.0
"""Who reads the instruction and who does not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from policy_stubs import (
    DECODERS,
    SAMPLES,
    BlobSlow,
    DeafSlow,
    FlowDecoder,
    KeyframeDecoder,
    ParallelDecoder,
    split,
)

from vla_ros.errors import InstructionError
from vla_ros.policies.base import Tensors
from vla_ros.policies.conformance.language import probe_language
from vla_ros.types import ActionChunk, Latent, Observation


def test_language_probe_flags_a_policy_that_ignores_its_instruction() -> None:
    for subject in DECODERS.values():
        probe = probe_language(subject, SAMPLES)
        assert not probe.ignores_language, probe.text()
        assert probe.other_m > 0.01
    deaf = probe_language(split(FlowDecoder, DeafSlow), SAMPLES)
    assert deaf.ignores_language
    assert "ignores language" in deaf.text()


def test_language_probe_tells_scatter_from_reading() -> None:
    """Rows of a policy that is not repeatable differ by themselves; that is not reading."""

    class Scattered(ParallelDecoder):
        random = np.random.default_rng(0)

        def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
            chunk = super().decode(latent, observation, now_ns)
            return replace(chunk, positions=chunk.positions + self.random.normal(0.0, 0.02, 3))

    probe = probe_language(split(Scattered, DeafSlow), SAMPLES)
    assert probe.floor_m > 0.005
    assert probe.ignores_language


def test_language_probe_takes_a_refusal_for_reading() -> None:
    class Strict(BlobSlow):
        def encode(self, observation: Observation) -> Tensors:
            if not observation.instruction:
                raise InstructionError("an instruction is needed")
            return super().encode(observation)

    probe = probe_language(split(KeyframeDecoder, Strict), SAMPLES)
    assert probe.blank_m == float("inf")
    assert not probe.ignores_language
