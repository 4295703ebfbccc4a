# SPDX-License-Identifier: Apache-2.0
"""What does not fit the contract of a backend is refused before anything of it is committed."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from policy_stubs import (
    CAMERA,
    CONTRACT,
    DT_NS,
    ROWS,
    SAMPLES,
    BlobSlow,
    ImageActionPolicy,
    ParallelDecoder,
    observations,
)

from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.errors import ConfigError, PolicyError
from vla_ros.policies.conformance.execution import execute_split, execute_whole
from vla_ros.policies.conformance.planted import CHUNK_FAULTS, CorruptChunkPolicy, CorruptFastPolicy
from vla_ros.policies.conformance.subject import WholeBackend
from vla_ros.policies.conformance.suite import check_backend
from vla_ros.policies.contract import (
    BackendContract,
    CheckedChunkPolicy,
    CheckedFastPolicy,
    CheckedSlowPolicy,
    TensorForm,
)
from vla_ros.policies.diagnostics import alarm_of, diagnostics_of
from vla_ros.types import ActionChunk


@pytest.mark.parametrize("fault", CHUNK_FAULTS)
def test_planted_faults_are_named_and_nothing_is_committed(fault: str) -> None:
    fast = CorruptFastPolicy(ParallelDecoder(), CHUNK_FAULTS[fault], after=1)
    result = execute_split(BlobSlow(), CheckedFastPolicy(fast, CONTRACT), observations(4))
    assert result.committed == 1
    assert len(result.refusals) == 3
    assert all(text.startswith("fast policy: ") for text in result.refusals)
    whole = CorruptChunkPolicy(ImageActionPolicy(), CHUNK_FAULTS[fault], after=1)
    result = execute_whole(CheckedChunkPolicy(whole, CONTRACT), observations(4))
    assert result.committed == 1
    assert len(result.refusals) == 3


@pytest.mark.parametrize("fault", ["NaN in a row", "a row too many", "quaternions not of length 1"])
def test_without_the_contract_admission_still_refuses(fault: str) -> None:
    """The second line: what a backend without checks returns is judged again before it is run."""
    result = execute_split(
        BlobSlow(), CorruptFastPolicy(ParallelDecoder(), CHUNK_FAULTS[fault]), observations()
    )
    assert result.committed == 0
    assert all("refused" in text for text in result.refusals)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cameras": {CAMERA: (32, 0)}}, "size of camera"),
        ({"chunk_rows": 0}, "chunk_rows"),
        ({"fastest_m_s": -1.0}, "fastest_m_s"),
    ],
)
def test_bad_contracts_are_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BackendContract(**change)  # type: ignore[arg-type]


def test_messages_say_what_is_and_what_must_be() -> None:
    observation = observations()[0]
    with pytest.raises(PolicyError, match=r"no image of 'scene_camera'; got none"):
        CONTRACT.check_observation(replace(observation, frames={}))
    with pytest.raises(PolicyError, match=r"must be int64 \(1,\), got float32 \(2,\)"):
        CONTRACT.check_latent({"goal": np.zeros(3, np.float32), "step": np.zeros(2, np.float32)})
    with pytest.raises(PolicyError, match=r"lacks tensor 'step'; it has \['goal'\]"):
        CONTRACT.check_latent({"goal": np.zeros(3, np.float32)})
    deep = replace(CONTRACT, needs_depth=True)
    with pytest.raises(PolicyError, match="has no depth"):
        deep.check_observation(observation)
    assert TensorForm.of(np.zeros((2, 3), np.uint8)) == TensorForm((2, 3), "uint8")


def test_a_policy_that_returns_no_chunk_is_refused() -> None:
    class Empty(ImageActionPolicy):
        def infer(self, request: InferenceRequest) -> tuple[ActionChunk, ...]:
            return ()

    result = execute_whole(CheckedChunkPolicy(Empty(), CONTRACT), observations())
    assert result.committed == 0
    assert result.refusals[0] == "the policy returned no chunk"
    subject = WholeBackend("empty", Empty)
    assert not check_backend(subject, SAMPLES, only=["rows_are_sound"]).passed
    assert subject.time_grid == (ROWS, DT_NS)


def test_what_a_policy_says_of_itself_passes_through_its_checks() -> None:
    class Talkative(BlobSlow):
        alarm = "the large model is gone"

        def diagnostics(self) -> dict[str, float]:
            return {"hit_rate": 0.5}

    checked = CheckedSlowPolicy(Talkative(), CONTRACT)
    assert diagnostics_of(checked) == {"hit_rate": 0.5}
    assert alarm_of(checked) == "the large model is gone"
    assert checked.cameras == (CAMERA,)
    silent = CheckedSlowPolicy(BlobSlow(), CONTRACT)
    assert diagnostics_of(silent) == {}
    assert alarm_of(silent) == alarm_of(object()) == ""
