# SPDX-License-Identifier: Apache-2.0
"""Rows from a graph: one call, its candidates in order, and what the policy says about them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.strategies.base import Guidance, InferenceRequest, Prefix
from vla_ros.chunking.strategies.denoising import guided_denoise
from vla_ros.errors import PolicyError
from vla_ros.policies.manifest.files import PolicyFolder
from vla_ros.policies.manifest.schema import Role
from vla_ros.policies.onnx.contract import latent_tensors
from vla_ros.policies.onnx.denoiser import OnnxDenoiser
from vla_ros.policies.onnx.feeds import Call, Feeds
from vla_ros.policies.onnx.session import GraphSession, PolicyRuntime
from vla_ros.policies.timing import CallTiming
from vla_ros.types import ActionChunk, RobotState

Array = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What one call gave.

    Attributes:
        chunks: candidates, best first, as poses in base.
        scores: of the chunks, larger is better; empty if they are not ranked.
        uncertainty: 0 is certain; None if the policy does not say.
    """

    chunks: tuple[ActionChunk, ...]
    scores: tuple[float, ...] = ()
    uncertainty: float | None = None


class RowMaker:
    """Runs the graph that makes rows, ``fast`` or ``chunk``, or denoises under guidance.

    Raises:
        ConfigError: if the graph is refused (``GraphSession``).

    Thread-safety: one thread.
    """

    def __init__(self, folder: PolicyFolder, runtime: PolicyRuntime) -> None:
        self.manifest = folder.manifest
        self._now_ns = runtime.now_ns
        self._space = self.manifest.actions
        self._feeds = Feeds(folder, self.manifest.acting)
        self.cameras = self._feeds.cameras
        self.session = GraphSession(folder, self.manifest.acting.name, runtime)
        self._denoiser: OnnxDenoiser | None = None
        if self.manifest.abilities.denoising_steps:
            self._denoiser = OnnxDenoiser(folder, runtime)
        self._names = {tensor.role: tensor.name for tensor in self.manifest.acting.outputs}
        self._takes_prefix = self.manifest.acting.input(Role.PREFIX) is not None
        self._seen = [tensor.name for tensor in latent_tensors(self.manifest.acting)]
        self.last_timing: CallTiming | None = None

    def reset(self) -> None:
        """Begin an episode."""
        self._feeds.reset()
        if self._denoiser is not None:
            self._denoiser.reset()

    def make(self, call: Call, target0_ns: int | None = None) -> Rows:
        """Return rows of one call; row 0 is for ``target0_ns``, or as the manifest has it.

        Raises:
            PolicyError: if an input is missing, the graph fails, or its rows make no sense.
        """
        began_ns = self._now_ns()
        feeds = self._feeds.make(call)
        pre_ns = self._now_ns() - began_ns
        outputs, timing = self.session.run(feeds)
        began_ns = self._now_ns()
        state = call.observation.state
        if target0_ns is None:
            target0_ns = self._space.target0_ns(state)
        rows = self._read(outputs, state, target0_ns)
        self.last_timing = timing.around(pre_ns=pre_ns, post_ns=self._now_ns() - began_ns)
        return rows

    def answer(self, call: Call, request: InferenceRequest, target0_ns: int | None = None) -> Rows:
        """Return rows for a request: tied to its prefix as firmly as was asked for.

        With a prefix they lie on the grid of the request, else as for ``make``.

        Raises:
            PolicyError: as ``make``, or if the policy cannot do what was asked.
        """
        prefix = request.prefix
        if prefix is None or request.guidance is Guidance.NONE:
            return self.make(call, target0_ns)
        if request.guidance is Guidance.TRAINED and self._takes_prefix:
            return self.make(self._with_prefix(call, prefix), request.target0_ns)
        if self._denoiser is None:
            raise PolicyError(
                f"{self.manifest.name} cannot be guided ({request.guidance.value}): "
                "it gives no access to its denoising"
            )
        return self._denoise(self._denoiser, call, request)

    def _denoise(self, denoiser: OnnxDenoiser, call: Call, request: InferenceRequest) -> Rows:
        """Return rows under guidance; what the velocity stands on is computed once, before."""
        outputs: dict[str, NDArray[np.generic]] = {}
        spent: CallTiming | None = None
        if self._seen:
            began_ns = self._now_ns()
            feeds = self._feeds.make(call)
            pre_ns = self._now_ns() - began_ns
            outputs, spent = self.session.run(feeds)
            spent = spent.around(pre_ns=pre_ns)
            call = replace(call, seen={name: outputs[name] for name in self._seen})
        chunk = guided_denoise(denoiser.for_call(call, spent), request)
        self.last_timing = denoiser.last_timing
        return Rows(chunks=(self._judged(chunk, outputs) if outputs else chunk,))

    def _with_prefix(self, call: Call, prefix: Prefix) -> Call:
        most = self.manifest.abilities.prefix_rows_max
        if prefix.frozen_len > most:
            raise PolicyError(
                f"{self.manifest.name} was trained with prefixes of up to {most} rows, "
                f"got {prefix.frozen_len}"
            )
        columns = self._space.to_columns(prefix.rows, call.observation.state)
        columns[prefix.frozen_len :] = 0.0
        return replace(
            call,
            columns={**call.columns, Role.PREFIX: columns},
            numbers={**call.numbers, Role.PREFIX_ROWS: prefix.frozen_len},
        )

    def _read(
        self, outputs: dict[str, NDArray[np.generic]], state: RobotState, target0_ns: int
    ) -> Rows:
        actions = outputs[self._names[Role.ACTIONS]]
        candidates = actions.reshape(-1, *actions.shape[-2:])
        rows = [
            self._space.to_rows(columns.astype(np.float64), state, target0_ns=target0_ns)
            for columns in candidates
        ]
        chunks = [self._judged(chunk, outputs) for chunk in rows]
        scores = self._scores(outputs)
        if scores is not None:
            order = np.argsort(-scores, kind="stable")
            chunks = [chunks[i] for i in order]
            scores = scores[order]
        return Rows(
            chunks=tuple(chunks),
            scores=() if scores is None else tuple(float(s) for s in scores),
            uncertainty=self._number(outputs, Role.UNCERTAINTY),
        )

    def _judged(self, rows: ActionChunk, outputs: dict[str, NDArray[np.generic]]) -> ActionChunk:
        """Return rows that say whether the task is done, as the graph sees it."""
        done = self._number(outputs, Role.DONE)
        is_done = done is not None and done >= self._space.done_threshold
        return replace(rows, done=is_done, phase="done" if is_done else "acting")

    def _scores(self, outputs: dict[str, NDArray[np.generic]]) -> Array | None:
        for role, sign in ((Role.SCORES, 1.0), (Role.ENERGY, -1.0)):
            if role in self._names:
                scores: Array = sign * outputs[self._names[role]][0].astype(np.float64)
                return scores
        return None

    def _number(self, outputs: dict[str, NDArray[np.generic]], role: Role) -> float | None:
        return float(outputs[self._names[role]].item()) if role in self._names else None
