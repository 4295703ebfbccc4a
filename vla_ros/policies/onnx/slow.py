# SPDX-License-Identifier: Apache-2.0
"""The slow half of an exported policy: images and words to the named tensors of a latent."""

from __future__ import annotations

from vla_ros.errors import ConfigError
from vla_ros.policies.base import Tensors
from vla_ros.policies.instruction import parse_instruction
from vla_ros.policies.manifest.files import PolicyFolder
from vla_ros.policies.manifest.schema import InstructionDetails, Kind, Manifest
from vla_ros.policies.onnx.contract import (
    capabilities_of,
    exposure_proof,
    latent_schema_hash,
    latent_tensors,
    model_hash,
)
from vla_ros.policies.onnx.feeds import Call, Feeds, cameras_of, tokenizer_of
from vla_ros.policies.onnx.session import GraphSession, PolicyRuntime
from vla_ros.policies.timing import CallTiming
from vla_ros.policies.tokens import Tokenizer
from vla_ros.types import Observation


class OnnxInstructionCheck:
    """Knows which instructions a policy understands; reads its vocabulary and no weights.

    Words must be known; where the manifest states a grammar, the sentence must also make sense.

    Raises:
        ConfigError: if the vocabulary is not what the manifest says.
    """

    def __init__(self, folder: PolicyFolder) -> None:
        inputs = [
            (tensor, tensor.details)
            for tensor in folder.manifest.seeing.inputs
            if isinstance(tensor.details, InstructionDetails)
        ]
        self._tokenizers: list[Tokenizer] = [tokenizer_of(folder, *found) for found in inputs]
        self._says_goal = any(details.grammar == "pick_place" for _, details in inputs)

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError``, naming what is allowed, if it is not understood."""
        if self._says_goal:
            parse_instruction(instruction)
        for tokenizer in self._tokenizers:
            tokenizer.encode(instruction)


class SlowHalf:
    """What the runtime asks of a slow half, however it is computed.

    Raises:
        ConfigError: if the policy is not split, or its vocabulary is refused.
    """

    def __init__(self, folder: PolicyFolder) -> None:
        self.manifest = demand_split(folder.manifest)
        slow = self.manifest.graphs["slow"]
        self._check = OnnxInstructionCheck(folder)
        self._latent = latent_tensors(slow)
        self.name = self.manifest.name
        self.max_age_s = self.manifest.max_age_s
        self.cameras = cameras_of(slow)
        self.capabilities = capabilities_of(self.manifest)
        self.latent_schema_hash = latent_schema_hash(self.manifest)
        self.latent_bytes = sum(tensor.n_bytes for tensor in self._latent)
        self.model_hash = model_hash(folder)
        self.last_timing: CallTiming | None = None

    def check_instruction(self, instruction: str) -> None:
        """Raise ``InstructionError``, naming what is allowed, if it is not understood."""
        self._check.check_instruction(instruction)

    def _made(self, outputs: Tensors, observation: Observation) -> Tensors:
        """Return the latent of a graph's outputs, with the proof of its age."""
        tensors = {tensor.name: outputs[tensor.name] for tensor in self._latent}
        return exposure_proof(observation, self.cameras) | tensors


class OnnxSlowPolicy(SlowHalf):
    """A ``SlowPolicy`` of graph ``slow``.

    Args:
        folder: a split policy.
        runtime: where and how it runs.

    Raises:
        ConfigError: if the policy is not split, or refused (``GraphSession``).

    Thread-safety: one thread.
    """

    def __init__(self, folder: PolicyFolder, runtime: PolicyRuntime | None = None) -> None:
        super().__init__(folder)
        runtime = runtime or PolicyRuntime()
        self._now_ns = runtime.now_ns
        self._feeds = Feeds(folder, self.manifest.graphs["slow"])
        self.session = GraphSession(folder, "slow", runtime)

    def diagnostics(self) -> dict[str, str]:
        """Return where it runs and how long it takes."""
        return self.session.diagnostics()

    def reset(self) -> None:
        """Forget everything seen: graphs keep nothing from call to call."""
        self._feeds.reset()

    def encode(self, observation: Observation) -> Tensors:
        """Return the outputs of the graph by name.

        With them goes the strip of a simulated camera's image that holds its exposure time, by
        which anybody can prove how old the latent is.

        Raises:
            PolicyError: if an input is missing, the graph fails, or its output is not usable.
            InstructionError: if the instruction is not understood.
        """
        began_ns = self._now_ns()
        feeds = self._feeds.make(Call(observation=observation))
        pre_ns = self._now_ns() - began_ns
        outputs, timing = self.session.run(feeds)
        self.last_timing = timing.around(pre_ns=pre_ns)
        return self._made(outputs, observation)


def demand_split(manifest: Manifest) -> Manifest:
    """Return the manifest of a split policy.

    Raises:
        ConfigError: if it is in one piece.
    """
    if manifest.kind is not Kind.SPLIT:
        raise ConfigError(f"{manifest.name} is a policy in one piece: it has no slow and fast half")
    return manifest
