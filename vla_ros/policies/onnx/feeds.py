# SPDX-License-Identifier: Apache-2.0
"""What goes into a graph: each input is filled by what its role says, at the same address."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vla_ros.clock import NS_PER_MS, NS_PER_S
from vla_ros.errors import PolicyError, StaleDataError
from vla_ros.policies.images import write_image
from vla_ros.policies.manifest.files import PolicyFolder
from vla_ros.policies.manifest.schema import (
    GraphSpec,
    ImageDetails,
    InstructionDetails,
    LatentAgeDetails,
    NoiseDetails,
    Role,
    StateDetails,
    TensorSpec,
)
from vla_ros.policies.state_vector import StateVector
from vla_ros.policies.tokens import MAX_VOCABULARY_BYTES, Tokenizer, make_tokenizer
from vla_ros.types import Latent, Observation

Array = NDArray[np.generic]

HIDDEN_AGE_S = -1.0  # what a network that was trained to do without is told in place of an age


@dataclass(frozen=True, kw_only=True)
class Call:
    """What is known at one call.

    Attributes:
        now_ns: time of the call; None: when the state was measured.
        latent: of a split policy.
        seen: latent tensors that graph ``chunk`` made of the same observation, by name.
        tells_age: whether the graph is told how old the latent is; None: as its manifest says.
        columns: what else the role asks for, without the batch: prefix, rows under way and
            cotangent (H, A), features (C, rows, columns).
        numbers: single numbers: prefix rows, flow time.
    """

    observation: Observation
    now_ns: int | None = None
    latent: Latent | None = None
    seen: Mapping[str, Array] = field(default_factory=dict)
    tells_age: bool | None = None
    columns: dict[Role, Array] = field(default_factory=dict)
    numbers: dict[Role, float] = field(default_factory=dict)

    @property
    def at_ns(self) -> int:
        """The time of the call [ns]."""
        return self.observation.state.tick_ns if self.now_ns is None else self.now_ns


Fill = Callable[[Call], Array]


class Feeds:
    """Makes the inputs of a graph.

    Args:
        folder: holds vocabularies.
        graph: whose inputs.
        seed: of the noise.

    Raises:
        ConfigError: if a vocabulary is not what the manifest says.

    Thread-safety: one thread; the arrays are used again by the next call.
    """

    def __init__(self, folder: PolicyFolder, graph: GraphSpec, seed: int = 0) -> None:
        self._noise: list[_Noise] = []
        self._seed = seed
        may_lack = graph.input(Role.IMAGE_MASK) is not None
        self.cameras = cameras_of(graph)
        self._fills = [
            (tensor.name, self._fill_of(tensor, folder, may_lack)) for tensor in graph.inputs
        ]

    def make(self, call: Call) -> dict[str, Array]:
        """Return the inputs by name.

        Raises:
            PolicyError: if something is missing or does not fit.
            StaleDataError: if an image is too old.
            InstructionError: if the instruction is not understood.
        """
        return {name: fill(call) for name, fill in self._fills}

    def reset(self) -> None:
        """Begin an episode: the same noise comes again, so that a run can be repeated."""
        for noise in self._noise:
            noise.reset()

    def _fill_of(self, tensor: TensorSpec, folder: PolicyFolder, may_lack: bool) -> Fill:
        details, role = tensor.details, tensor.role
        if isinstance(details, ImageDetails):
            return _Images(tensor, details, may_lack)
        if isinstance(details, InstructionDetails):
            return _Instruction(tensor, tokenizer_of(folder, tensor, details))
        if isinstance(details, StateDetails):
            return _State(tensor, details)
        if isinstance(details, NoiseDetails):
            self._noise.append(_Noise(tensor, details, self._seed))
            return self._noise[-1]
        if role is Role.IMAGE_MASK:
            return _Mask(tensor, self.cameras)
        if role is Role.LATENT:
            return _LatentTensor(tensor)
        if isinstance(details, LatentAgeDetails):
            return _LatentAge(tensor, details)
        return _Given(tensor)


def tokenizer_of(
    folder: PolicyFolder, tensor: TensorSpec, details: InstructionDetails
) -> Tokenizer:
    """Return the tokenizer of an instruction input; its file is verified."""
    data = folder.read(details.vocabulary, MAX_VOCABULARY_BYTES)
    origin = str(folder.path / details.vocabulary)
    return make_tokenizer(details.tokenizer, data, tensor.size[1], origin)


def cameras_of(graph: GraphSpec) -> tuple[str, ...]:
    """Return the cameras that a graph sees, in its order."""
    images = graph.input(Role.IMAGES)
    details = None if images is None else images.details
    return details.cameras if isinstance(details, ImageDetails) else ()


class _Images:
    """The newest image of every camera, none of them older than allowed."""

    def __init__(self, tensor: TensorSpec, details: ImageDetails, may_lack: bool) -> None:
        self._out = np.zeros(tensor.size, dtype=np.uint8)
        self._views = self._out.reshape(len(details.cameras), *tensor.size[-3:])
        self._cameras, self._resize = details.cameras, details.resize
        top, bottom, left, right = (int(px) for px in details.crop_px)
        self._crop_px = (top, bottom, left, right)
        self._max_age_ns = round(details.max_age_s * NS_PER_S)
        self._may_lack = may_lack

    def __call__(self, call: Call) -> Array:
        frames = call.observation.frames
        for name, view in zip(self._cameras, self._views, strict=True):
            frame = frames.get(name)
            if frame is None:
                if not self._may_lack or not any(camera in frames for camera in self._cameras):
                    raise PolicyError(f"no image of {name!r}; got {sorted(frames) or 'none'}")
                view[...] = 0  # the mask says that this is no black image
                continue
            age_ns = call.at_ns - frame.capture_ns
            if age_ns > self._max_age_ns:
                raise StaleDataError(
                    f"the image of {name!r} is {age_ns / NS_PER_MS:.0f} ms old, "
                    f"at most {self._max_age_ns / NS_PER_MS:.0f} ms allowed"
                )
            write_image(frame, view, crop_px=self._crop_px, resize=self._resize)
        return self._out


class _Mask:
    """Which cameras gave an image."""

    def __init__(self, tensor: TensorSpec, cameras: Sequence[str]) -> None:
        self._out = np.zeros(tensor.size, dtype=np.bool_)
        self._cameras = cameras

    def __call__(self, call: Call) -> Array:
        self._out[0] = [name in call.observation.frames for name in self._cameras]
        return self._out


class _Instruction:
    """Tokens; made anew only when the words change."""

    def __init__(self, tensor: TensorSpec, tokenizer: Tokenizer) -> None:
        self._out = np.zeros(tensor.size, dtype=tensor.dtype)
        self._tokenizer = tokenizer
        self._known: str | None = None

    def __call__(self, call: Call) -> Array:
        instruction = call.observation.instruction
        if instruction != self._known:
            self._out[0] = self._tokenizer.encode(instruction)
            self._known = instruction
        return self._out


class _State:
    """Fields of the robot state."""

    def __init__(self, tensor: TensorSpec, details: StateDetails) -> None:
        self._out = np.zeros(tensor.size, dtype=np.float32)
        self._vector = StateVector(details.fields, details.n_joints)

    def __call__(self, call: Call) -> Array:
        self._vector.write(call.observation.state, self._out[0])
        return self._out


class _Noise:
    """Standard normal noise; the same sequence after every reset."""

    def __init__(self, tensor: TensorSpec, details: NoiseDetails, seed: int) -> None:
        self._out = np.zeros(tensor.size, dtype=np.float32)
        self._draw, self._seed = details.draw, seed
        self.reset()

    def reset(self) -> None:
        self._random = np.random.default_rng(self._seed)
        if self._draw != "zeros":
            self._random.standard_normal(dtype=np.float32, out=self._out)

    def __call__(self, call: Call) -> Array:
        if self._draw == "call":
            self._random.standard_normal(dtype=np.float32, out=self._out)
        return self._out


class _LatentTensor:
    """A tensor of the latent, where it lies."""

    def __init__(self, tensor: TensorSpec) -> None:
        self._name = tensor.source or tensor.name
        self._dtype, self._shape = np.dtype(tensor.dtype), tensor.size

    def __call__(self, call: Call) -> Array:
        tensors = call.seen if call.latent is None else call.latent.tensors
        value = tensors.get(self._name)
        if value is None or value.dtype != self._dtype or value.shape != self._shape:
            got = "nothing" if value is None else f"{value.dtype} {value.shape}"
            raise PolicyError(
                f"latent tensor {self._name!r} must be {self._dtype} {self._shape}, got {got}"
            )
        return value


class _LatentAge:
    """Time since the exposure of the oldest image behind the latent [s]."""

    def __init__(self, tensor: TensorSpec, details: LatentAgeDetails) -> None:
        self._out = np.zeros(tensor.size, dtype=np.float32)
        self._told_up_to_s = details.told_up_to_s

    def __call__(self, call: Call) -> Array:
        if call.latent is None:
            raise PolicyError("there is no latent")
        # Clocks of two cameras may differ by a little: nothing is younger than now.
        age_s = max(0, call.latent.stamp.age_ns(call.at_ns)) / NS_PER_S
        is_told = age_s <= self._told_up_to_s if call.tells_age is None else call.tells_age
        self._out[...] = age_s if is_told else HIDDEN_AGE_S
        return self._out


class _Given:
    """What the caller hands in for a role: rows in columns, or a number."""

    def __init__(self, tensor: TensorSpec) -> None:
        self._out = tensor.zeros()
        self._role = tensor.role

    def __call__(self, call: Call) -> Array:
        self._out[...] = 0
        if self._role in call.columns:
            self._out[0] = call.columns[self._role]
        elif self._role in call.numbers:
            self._out[...] = call.numbers[self._role]
        return self._out
