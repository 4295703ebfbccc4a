# SPDX-License-Identifier: Apache-2.0
"""The fast half of an exported policy: latent, its age and fresh state to rows."""

from __future__ import annotations

from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.policies.manifest.files import PolicyFolder
from vla_ros.policies.onnx.contract import (
    capabilities_of,
    latent_schema_hash,
    latent_tensors,
    model_hash,
)
from vla_ros.policies.onnx.feeds import Call
from vla_ros.policies.onnx.rows import RowMaker, Rows
from vla_ros.policies.onnx.session import GraphSession, PolicyRuntime
from vla_ros.policies.onnx.slow import demand_split
from vla_ros.policies.timing import CallTiming
from vla_ros.types import ActionChunk, Latent, Observation


class OnnxFastPolicy:
    """A ``FastPolicy`` of graph ``fast``.

    Args:
        folder: a split policy.
        runtime: where and how it runs.
        tells_age: True tells the graph every age of the latent, False none (``HIDDEN_AGE_S``), to
            measure what knowing it is worth; None: those that the manifest says.

    Attributes:
        last_rows: what the last call gave: all candidates, scores, uncertainty.

    Raises:
        ConfigError: if the policy is not split, or refused (``GraphSession``).

    Thread-safety: one thread.
    """

    def __init__(
        self,
        folder: PolicyFolder,
        runtime: PolicyRuntime | None = None,
        *,
        tells_age: bool | None = None,
    ) -> None:
        self.manifest = demand_split(folder.manifest)
        self._tells_age = tells_age
        self._maker = RowMaker(folder, runtime or PolicyRuntime())
        latent = latent_tensors(self.manifest.graphs["slow"])
        self.name = self.manifest.name
        self.chunk_rows = self.manifest.actions.rows
        self.chunk_dt_ns = self.manifest.actions.dt_ns
        self.cameras = self._maker.cameras
        self.capabilities = capabilities_of(self.manifest)
        self.latent_schema_hash = latent_schema_hash(self.manifest)
        self.latent_bytes = sum(tensor.n_bytes for tensor in latent)
        self.model_hash = model_hash(folder)
        self.last_rows: Rows | None = None

    @property
    def session(self) -> GraphSession:
        """The session of graph ``fast``."""
        return self._maker.session

    @property
    def last_timing(self) -> CallTiming | None:
        """Where the time of the last call went."""
        return self._maker.last_timing

    def diagnostics(self) -> dict[str, str]:
        """Return where it runs and how long it takes."""
        return self.session.diagnostics()

    def reset(self) -> None:
        """Forget everything: graphs keep nothing from call to call; noise begins anew."""
        self._maker.reset()
        self.last_rows = None

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        """Return the best chunk.

        Raises:
            PolicyError: if the latent does not fit, an image is missing, the graph fails, or its
                rows make no sense.
            StaleDataError: if an image is too old.
        """
        self.last_rows = self._maker.make(self._call(latent, observation, now_ns))
        return self.last_rows.chunks[0]

    def decode_request(
        self, latent: Latent, request: InferenceRequest, now_ns: int
    ) -> tuple[ActionChunk, ...]:
        """Return all candidates, best first, tied to the request's prefix if it has one.

        Raises:
            PolicyError: as ``decode``, or if the policy cannot be tied in the way asked for.
        """
        call = self._call(latent, request.observation, now_ns)
        self.last_rows = self._maker.answer(call, request)
        return self.last_rows.chunks

    def _call(self, latent: Latent, observation: Observation, now_ns: int) -> Call:
        return Call(
            observation=observation, now_ns=now_ns, latent=latent, tells_age=self._tells_age
        )
