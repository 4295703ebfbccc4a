# SPDX-License-Identifier: Apache-2.0
"""What goes between a policy's client and its server: one JSON text and named tensors.

No pickle: texts, numbers and arrays with explicit names, types and shapes (``latency/codec``).
Instants in a question are those of the asking host and go back as they came; a server adds
durations alone, so that no clocks need to agree.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.chunking.strategies.base import Guidance, InferenceRequest, Prefix
from vla_ros.errors import PolicyError, ShapeError
from vla_ros.latency.codec import decode_tensors, encode_tensors
from vla_ros.latency.stamp import LatencyStamp
from vla_ros.types import (
    ActionChunk,
    CameraFrame,
    CameraIntrinsics,
    ControlMode,
    Latent,
    Observation,
    RobotState,
)

STAMP = "stamp"  # tensor of a latent's stamp
_TEXT = "text"
_STATE_ARRAYS = ("q", "dq", "tau", "T_base_ee", "twist_base", "T_base_ref", "twist_ref_base")
_STATE_NUMBERS = ("seq", "tick_ns", "mode", "gripper_width_m", "gripper_target_m")
_ROWS = ("positions", "quats_xyzw", "gripper_width_m")
_GRID = ("target0_ns", "dt_ns", "phase", "done")

Tensors = dict[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Message:
    """A question or an answer.

    Attributes:
        kind: what is asked, or what the answer is.
        values: texts and numbers, as JSON has them.
        tensors: arrays by name; those of a message that was received are read-only.
    """

    kind: str
    values: Mapping[str, Any] = field(default_factory=dict)
    tensors: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """Return the message as bytes; raises ``ShapeError`` if a tensor cannot be sent."""
        text = json.dumps({"kind": self.kind, "values": dict(self.values)}).encode()
        return encode_tensors({_TEXT: np.frombuffer(text, np.uint8)} | dict(self.tensors))

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> Message:
        """Read a message; raises ``PolicyError`` if it is none."""
        try:
            tensors = decode_tensors(data)
            text = json.loads(tensors.pop(_TEXT).tobytes().decode())
            return cls(str(text["kind"]), dict(text["values"]), tensors)
        except (ShapeError, LookupError, TypeError, ValueError, RecursionError) as error:
            raise PolicyError(f"not a message of a policy: {error}") from error


def part(tensors: Mapping[str, NDArray[np.generic]], prefix: str) -> Tensors:
    """Return the tensors whose names begin so, without that beginning."""
    return {n.removeprefix(prefix): v for n, v in tensors.items() if n.startswith(prefix)}


def put_observation(observation: Observation) -> tuple[dict[str, Any], Tensors]:
    """Return an observation as values and tensors."""
    state = observation.state
    tensors: Tensors = {f"state/{name}": getattr(state, name) for name in _STATE_ARRAYS}
    frames = {}
    for name, frame in observation.frames.items():
        frames[name] = {"intrinsics": asdict(frame.intrinsics), "capture_ns": frame.capture_ns}
        tensors[f"rgb/{name}"] = frame.rgb
        tensors[f"pose/{name}"] = frame.T_base_camera
        if frame.depth_m is not None:
            tensors[f"depth/{name}"] = frame.depth_m
    values = {
        "state": {name: getattr(state, name) for name in _STATE_NUMBERS},
        "instruction": observation.instruction,
        "instruction_id": observation.instruction_id,
        "episode_id": observation.episode_id,
        "frames": frames,
    }
    return values, tensors


def get_observation(values: Mapping[str, Any], tensors: Mapping[str, Any]) -> Observation:
    """Return the observation of values and tensors."""
    numbers = dict(values["state"])
    numbers["mode"] = ControlMode(numbers["mode"])
    arrays = {name: tensors[f"state/{name}"] for name in _STATE_ARRAYS}
    frames = {
        name: CameraFrame(
            name=name,
            rgb=tensors[f"rgb/{name}"],
            depth_m=tensors.get(f"depth/{name}"),
            intrinsics=CameraIntrinsics(**fields["intrinsics"]),
            T_base_camera=tensors[f"pose/{name}"],
            capture_ns=fields["capture_ns"],
        )
        for name, fields in values["frames"].items()
    }
    return Observation(
        state=RobotState(**numbers, **arrays),
        instruction=values["instruction"],
        instruction_id=values["instruction_id"],
        episode_id=values["episode_id"],
        frames=frames,
    )


def put_latent(latent: Latent) -> Tensors:
    """Return a latent, with its stamp, as tensors."""
    tensors: Tensors = {f"latent/{n}": np.asarray(v) for n, v in latent.tensors.items()}
    tensors[STAMP] = np.frombuffer(latent.stamp.to_bytes(), np.uint8)
    return tensors


def get_latent(tensors: Mapping[str, Any]) -> Latent:
    """Return the latent of tensors."""
    stamp = LatencyStamp.from_bytes(tensors[STAMP].tobytes())
    return Latent(tensors=part(tensors, "latent/"), stamp=stamp)


def put_chunks(chunks: tuple[ActionChunk, ...]) -> tuple[list[dict[str, Any]], Tensors]:
    """Return chunks as values and tensors."""
    values = [{name: getattr(chunk, name) for name in _GRID} for chunk in chunks]
    tensors: Tensors = {
        f"{k}/{name}": getattr(chunk, name) for k, chunk in enumerate(chunks) for name in _ROWS
    }
    return values, tensors


def get_chunks(values: list[dict[str, Any]], tensors: Mapping[str, Any]) -> tuple[ActionChunk, ...]:
    """Return the chunks of values and tensors, with arrays of their own."""
    chunks = []
    for k, fields in enumerate(values):
        arrays: dict[str, Any] = {name: np.array(tensors[f"{k}/{name}"]) for name in _ROWS}
        chunks.append(ActionChunk(**fields, **arrays))
    return tuple(chunks)


def put_request(request: InferenceRequest) -> tuple[dict[str, Any], Tensors]:
    """Return a request as values and tensors."""
    values, tensors = put_observation(request.observation)
    values |= {
        "target0_ns": request.target0_ns,
        "dt_ns": request.dt_ns,
        "seq": request.seq,
        "delay_assumed_ns": request.delay_assumed_ns,
        "guidance": request.guidance.value,
        "is_projected": request.is_projected,
        "prefix": None,
    }
    if request.prefix is not None:
        rows, arrays = put_chunks((request.prefix.rows,))
        tensors |= {f"prefix/{name}": array for name, array in arrays.items()}
        tensors["weights"] = request.prefix.weights
        values["prefix"] = {
            "rows": rows,
            "frozen_len": request.prefix.frozen_len,
            "max_guidance_weight": request.prefix.max_guidance_weight,
        }
    return values, tensors


def get_request(values: Mapping[str, Any], tensors: Mapping[str, Any]) -> InferenceRequest:
    """Return the request of values and tensors."""
    prefix = None
    if values["prefix"] is not None:
        prefix = Prefix(
            rows=get_chunks(values["prefix"]["rows"], part(tensors, "prefix/"))[0],
            frozen_len=values["prefix"]["frozen_len"],
            weights=tensors["weights"],
            max_guidance_weight=values["prefix"]["max_guidance_weight"],
        )
    return InferenceRequest(
        observation=get_observation(values, tensors),
        target0_ns=values["target0_ns"],
        dt_ns=values["dt_ns"],
        seq=values["seq"],
        delay_assumed_ns=values["delay_assumed_ns"],
        prefix=prefix,
        guidance=Guidance(values["guidance"]),
        is_projected=values["is_projected"],
    )
