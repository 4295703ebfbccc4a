# SPDX-License-Identifier: Apache-2.0
"""An exported policy in one piece, and its two ends in the asynchronous stack.

In the stack its rows travel as a latent: ``ChunkAsSlow`` computes them where slow policies run,
``RowsAsFast`` hands them out by their times, 30 times per second, until newer ones are there.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.strategies.base import InferenceRequest, PolicyCapabilities
from vla_ros.clock import NS_PER_S
from vla_ros.errors import ConfigError, PolicyError
from vla_ros.latency.stamping import schema_hash
from vla_ros.policies.base import Tensors
from vla_ros.policies.manifest.files import PolicyFolder
from vla_ros.policies.manifest.schema import Kind, Manifest
from vla_ros.policies.onnx.contract import capabilities_of, exposure_proof, model_hash
from vla_ros.policies.onnx.feeds import Call
from vla_ros.policies.onnx.rows import RowMaker, Rows
from vla_ros.policies.onnx.session import GraphSession, PolicyRuntime
from vla_ros.policies.onnx.slow import OnnxInstructionCheck
from vla_ros.policies.timing import CallTiming
from vla_ros.types import ActionChunk, Latent, Observation


class OnnxChunkPolicy:
    """A ``ChunkPolicy`` of graph ``chunk``.

    Args:
        folder: a policy in one piece.
        runtime: where and how it runs.

    Raises:
        ConfigError: if the policy is split, or refused (``GraphSession``).

    Thread-safety: one thread.
    """

    def __init__(self, folder: PolicyFolder, runtime: PolicyRuntime | None = None) -> None:
        self.manifest = demand_chunk(folder.manifest)
        self._check = OnnxInstructionCheck(folder)
        self._maker = RowMaker(folder, runtime or PolicyRuntime())
        self.name = self.manifest.name
        self.max_age_s = self.manifest.max_age_s
        self.cameras = self._maker.cameras
        self.capabilities = capabilities_of(self.manifest)
        self.model_hash = model_hash(folder)
        self.last_rows: Rows | None = None

    @property
    def session(self) -> GraphSession:
        """The session of graph ``chunk``."""
        return self._maker.session

    @property
    def last_timing(self) -> CallTiming | None:
        """Where the time of the last call went."""
        return self._maker.last_timing

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError``, naming what is allowed, if it is not understood."""
        self._check.check_instruction(instruction)

    def reset(self) -> None:
        """Forget everything: graphs keep nothing from call to call; noise begins anew."""
        self._maker.reset()
        self.last_rows = None

    def infer(self, request: InferenceRequest) -> tuple[ActionChunk, ...]:
        """Return chunks for a request, best first; without a prefix row 0 is `first_row_s` later.

        Raises:
            PolicyError: if an input is missing, the graph fails, or its rows make no sense.
            StaleDataError: if an image is too old.
        """
        call = Call(observation=request.observation)
        first_ns = round(self.manifest.actions.first_row_s * NS_PER_S)
        self.last_rows = self._maker.answer(call, request, request.target0_ns + first_ns)
        return self.last_rows.chunks

    def infer_now(self, observation: Observation) -> ActionChunk:
        """Return the best chunk, row 0 at the time of the observation's state."""
        self.last_rows = self._maker.make(Call(observation=observation))
        return self.last_rows.chunks[0]


class ChunkAsSlow:
    """A ``SlowPolicy`` whose latent is a chunk."""

    def __init__(self, policy: OnnxChunkPolicy) -> None:
        self._policy = policy
        self.name = policy.name
        self.max_age_s = policy.max_age_s
        self.cameras = policy.cameras
        self.model_hash = policy.model_hash
        self.latent_schema_hash, self.latent_bytes = _contract(policy.manifest)

    @property
    def session(self) -> GraphSession:
        """The session of the graph."""
        return self._policy.session

    @property
    def last_timing(self) -> CallTiming | None:
        """Where the time of the last call went."""
        return self._policy.last_timing

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError``, naming what is allowed, if it is not understood."""
        self._policy.check_instruction(instruction)

    def diagnostics(self) -> dict[str, str]:
        """Return where it runs and how long it takes."""
        return self.session.diagnostics()

    def encode(self, observation: Observation) -> Tensors:
        """Return the rows of a chunk as tensors, poses in base.

        Raises:
            PolicyError: as ``OnnxChunkPolicy.infer``.
        """
        chunk = self._policy.infer_now(observation)
        tensors: dict[str, NDArray[np.generic]] = {
            "positions": chunk.positions,
            "quats_xyzw": chunk.quats_xyzw,
            "gripper_width_m": chunk.gripper_width_m,
            "target0_ns": np.array([chunk.target0_ns], dtype=np.int64),
            "is_done": np.array([chunk.done]),
        }
        return tensors | exposure_proof(observation, self.cameras)

    def reset(self) -> None:
        """Forget everything."""
        self._policy.reset()


class RowsAsFast:
    """A ``FastPolicy`` that hands out the rows of a chunk until a newer one is there."""

    def __init__(self, folder: PolicyFolder) -> None:
        manifest = demand_chunk(folder.manifest)
        self.name = manifest.name
        self.chunk_rows = manifest.actions.rows
        self.chunk_dt_ns = manifest.actions.dt_ns
        self.capabilities = PolicyCapabilities(
            horizon=self.chunk_rows, dt_ns=self.chunk_dt_ns, has_split_latent=True
        )
        self.model_hash = model_hash(folder)
        self.latent_schema_hash, self.latent_bytes = _contract(manifest)

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        """Return the rows of the latent at the times they were made for.

        Raises:
            PolicyError: if the latent is none of this policy, or all of its rows are past.
        """
        t = latent.tensors
        try:
            chunk = ActionChunk(
                target0_ns=int(t["target0_ns"][0]),
                dt_ns=self.chunk_dt_ns,
                positions=np.asarray(t["positions"], dtype=np.float64),
                quats_xyzw=np.asarray(t["quats_xyzw"], dtype=np.float64),
                gripper_width_m=np.asarray(t["gripper_width_m"], dtype=np.float64),
                done=bool(t["is_done"][0]),
                phase="done" if t["is_done"][0] else "acting",
            )
        except (KeyError, IndexError, ValueError) as error:
            raise PolicyError(f"the latent holds no rows: {error!r}") from error
        end_ns = chunk.target0_ns + (chunk.horizon - 1) * chunk.dt_ns
        if end_ns < now_ns:
            raise PolicyError(f"the last row was due {(now_ns - end_ns) / 1e6:.0f} ms ago")
        return chunk

    def reset(self) -> None:
        """There is nothing to forget."""


def demand_chunk(manifest: Manifest) -> Manifest:
    """Return the manifest of a policy in one piece.

    Raises:
        ConfigError: if it is split.
    """
    if manifest.kind is not Kind.CHUNK:
        raise ConfigError(f"{manifest.name} is a split policy: it has no graph chunk")
    return manifest


def _contract(manifest: Manifest) -> tuple[int, int]:
    """Return schema hash and size of the latent that a chunk makes."""
    n = manifest.actions.rows
    tensors = {
        "positions": np.zeros((n, 3)),
        "quats_xyzw": np.zeros((n, 4)),
        "gripper_width_m": np.zeros(n),
        "target0_ns": np.zeros(1, dtype=np.int64),
        "is_done": np.zeros(1, dtype=bool),
    }
    schema = schema_hash(tensors, manifest.normalisation_sha256)
    return schema, sum(value.nbytes for value in tensors.values())
