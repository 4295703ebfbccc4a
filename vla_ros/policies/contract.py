# SPDX-License-Identifier: Apache-2.0
"""What goes into a backend and what comes out of it, checked at every call.

Around a policy of any kind: what does not fit raises ``PolicyError`` before the runtime sees it, so
that nothing of it is committed. The message names the thing, what it is and what it must be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.strategies.base import InferenceRequest
from vla_ros.config_fields import check_fields, setting
from vla_ros.errors import ConfigError, PolicyError
from vla_ros.policies.around import Around, AroundFast, answered
from vla_ros.policies.base import ChunkPolicy, FastPolicy, SlowPolicy, Tensors
from vla_ros.types import ActionChunk, Latent, Observation, RobotState

_UNIT_TOLERANCE = 1e-3  # that of the control host


@dataclass(frozen=True)
class TensorForm:
    """Shape and NumPy type of a tensor."""

    shape: tuple[int, ...]
    dtype: str

    @staticmethod
    def of(value: NDArray[np.generic]) -> TensorForm:
        """Return the form of an array."""
        return TensorForm(value.shape, value.dtype.name)

    def __str__(self) -> str:
        return f"{self.dtype} {self.shape}"


@dataclass(frozen=True, kw_only=True)
class BackendContract:
    """What a backend was made for.

    Attributes:
        cameras: height and width of the images it needs [px], by camera.
        latent: the tensors between its halves; empty for a policy in one piece.
    """

    cameras: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    latent: Mapping[str, TensorForm] = field(default_factory=dict)
    chunk_rows: int = setting(16, "rows of a chunk", unit="rows", ge=1, le=1000)
    chunk_dt_ns: int = setting(33_333_333, "time between rows", unit="ns", ge=1, le=10**10)
    needs_depth: bool = setting(False, "images need depth")
    fastest_m_s: float = setting(
        3.0, "rows that move faster are an error", unit="m/s", ge=0.01, le=10.0
    )
    farthest_s: float = setting(
        1.0, "row 0 is at most so far from the time of the call", unit="s", ge=0.001, le=60.0
    )

    def __post_init__(self) -> None:
        check_fields(self)
        for name, size in self.cameras.items():
            if len(size) != 2 or min(size) < 1:
                raise ConfigError(f"size of camera {name!r} must be (height, width), got {size}")

    def check_observation(self, observation: Observation) -> None:
        """Raise ``PolicyError`` if a camera is missing or its image of another size."""
        for name, size in self.cameras.items():
            frame = observation.frames.get(name)
            if frame is None:
                got = sorted(observation.frames) or "none"
                raise PolicyError(f"no image of {name!r}; got {got}")
            if frame.rgb.shape[:2] != size:
                raise PolicyError(
                    f"the image of {name!r} must be {size[1]} x {size[0]} px, got "
                    f"{frame.rgb.shape[1]} x {frame.rgb.shape[0]}"
                )
            if self.needs_depth and frame.depth_m is None:
                raise PolicyError(f"the image of {name!r} has no depth")

    def check_state(self, state: RobotState) -> None:
        """Raise ``PolicyError`` if a robot state is not finite."""
        for name in ("q", "dq", "T_base_ee", "twist_base", "T_base_ref", "twist_ref_base"):
            if not np.isfinite(getattr(state, name)).all():
                raise PolicyError(f"{name} of the robot state is not finite")

    def check_latent(self, tensors: Tensors) -> None:
        """Raise ``PolicyError`` if a tensor is missing, of another form or not finite."""
        for name, form in self.latent.items():
            value = tensors.get(name)
            if value is None:
                raise PolicyError(f"latent lacks tensor {name!r}; it has {sorted(tensors)}")
            if TensorForm.of(value) != form:
                raise PolicyError(
                    f"latent tensor {name!r} must be {form}, got {TensorForm.of(value)}"
                )
            if value.dtype.kind == "f" and not np.isfinite(value).all():
                raise PolicyError(f"latent tensor {name!r} is not finite")

    def check_chunk(self, chunk: ActionChunk, now_ns: int) -> None:
        """Raise ``PolicyError`` if rows have another form, or no arm could run them."""
        if (chunk.horizon, chunk.dt_ns) != (self.chunk_rows, self.chunk_dt_ns):
            raise PolicyError(
                f"a chunk must have {self.chunk_rows} rows {self.chunk_dt_ns} ns apart, got "
                f"{chunk.horizon} rows {chunk.dt_ns} ns apart"
            )
        for name in ("positions", "quats_xyzw", "gripper_width_m"):
            value = getattr(chunk, name)
            if value.dtype != np.float64:
                raise PolicyError(f"{name} must be float64, got {value.dtype}")
            if not np.isfinite(value).all():
                raise PolicyError(f"{name} are not finite")
        if chunk.gripper_width_m.min() < 0.0:
            raise PolicyError(f"gripper_width_m must be >= 0, got {chunk.gripper_width_m.min()}")
        off = float(np.abs(np.linalg.norm(chunk.quats_xyzw, axis=1) - 1.0).max())
        if off > _UNIT_TOLERANCE:
            raise PolicyError(f"quats_xyzw must have length 1 within {_UNIT_TOLERANCE}, off {off}")
        away_s = abs(chunk.target0_ns - now_ns) * 1e-9
        if away_s > self.farthest_s:
            raise PolicyError(
                f"row 0 must be within {self.farthest_s:g} s of the call, is {away_s:g} s away"
            )
        steps = np.linalg.norm(np.diff(chunk.positions, axis=0), axis=1)
        fastest = float(steps.max(initial=0.0)) / (1e-9 * chunk.dt_ns)
        if fastest > self.fastest_m_s:
            raise PolicyError(f"rows must be below {self.fastest_m_s:g} m/s, got {fastest:g} m/s")

    def checked(self, chunks: tuple[ActionChunk, ...], now_ns: int) -> tuple[ActionChunk, ...]:
        """Return chunks, each checked; raises ``PolicyError``, also where there is none."""
        if not chunks:
            raise PolicyError("the policy returned no chunk")
        for chunk in chunks:
            self.check_chunk(chunk, now_ns)
        return chunks


class CheckedSlowPolicy(Around):
    """A slow policy whose observations and latents are checked."""

    def __init__(self, policy: SlowPolicy, contract: BackendContract) -> None:
        super().__init__(policy)
        self._policy, self._contract = policy, contract
        self.name, self.max_age_s = policy.name, policy.max_age_s
        self.cameras = tuple(contract.cameras)

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError`` if the policy does not understand it."""
        self._policy.check_instruction(instruction)

    def encode(self, observation: Observation) -> Tensors:
        """Return the latent; raises ``PolicyError`` if anything is not as agreed."""
        self._contract.check_observation(observation)
        self._contract.check_state(observation.state)
        tensors = self._policy.encode(observation)
        self._contract.check_latent(tensors)
        return tensors

    def reset(self) -> None:
        """Forget everything seen."""
        self._policy.reset()


class CheckedFastPolicy(AroundFast):
    """A fast policy whose latents, states and rows are checked; images are the policy's affair."""

    def __init__(self, policy: FastPolicy, contract: BackendContract) -> None:
        super().__init__(policy)
        self._policy, self._contract = policy, contract
        self.name = policy.name
        self.chunk_rows, self.chunk_dt_ns = contract.chunk_rows, contract.chunk_dt_ns

    def decode(self, latent: Latent, observation: Observation, now_ns: int) -> ActionChunk:
        """Return rows; raises ``PolicyError`` if anything is not as agreed."""
        self._contract.check_latent(latent.tensors)
        self._contract.check_state(observation.state)
        chunk = self._policy.decode(latent, observation, now_ns)
        self._contract.check_chunk(chunk, now_ns)
        return chunk

    def decode_request(
        self, latent: Latent, request: InferenceRequest, now_ns: int
    ) -> tuple[ActionChunk, ...]:
        """Return chunks for a request; raises ``PolicyError`` if anything is not as agreed."""
        self._contract.check_latent(latent.tensors)
        self._contract.check_state(request.observation.state)
        return self._contract.checked(answered(self._policy, latent, request, now_ns), now_ns)

    def reset(self) -> None:
        """Forget everything."""
        self._policy.reset()


class CheckedChunkPolicy(Around):
    """A policy in one piece whose observations and rows are checked."""

    def __init__(self, policy: ChunkPolicy, contract: BackendContract) -> None:
        super().__init__(policy)
        self._policy, self._contract = policy, contract
        self.name = policy.name

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError`` if the policy does not understand it."""
        self._policy.check_instruction(instruction)

    def infer(self, request: InferenceRequest) -> tuple[ActionChunk, ...]:
        """Return chunks; raises ``PolicyError`` if anything is not as agreed."""
        self._contract.check_observation(request.observation)
        self._contract.check_state(request.observation.state)
        return self._contract.checked(self._policy.infer(request), request.target0_ns)

    def reset(self) -> None:
        """Forget everything."""
        self._policy.reset()
