# SPDX-License-Identifier: Apache-2.0
"""From the folder of an export to the policies it makes."""

from __future__ import annotations

from pathlib import Path

from vla_ros.policies.base import FastPolicy, InstructionCheck, SlowPolicy
from vla_ros.policies.manifest.files import open_policy
from vla_ros.policies.manifest.schema import Kind
from vla_ros.policies.onnx.cached_slow import CachedOnnxSlowPolicy
from vla_ros.policies.onnx.chunk import ChunkAsSlow, OnnxChunkPolicy, RowsAsFast
from vla_ros.policies.onnx.fast import OnnxFastPolicy
from vla_ros.policies.onnx.session import PolicyRuntime
from vla_ros.policies.onnx.slow import OnnxInstructionCheck, OnnxSlowPolicy


def load_slow(path: Path, runtime: PolicyRuntime | None = None) -> SlowPolicy:
    """Return what runs slowly: the slow half, with its cache if so asked, or a policy in one piece.

    Raises:
        ConfigError: if the export is refused, or has no cache and should be run with one.
    """
    folder = open_policy(path)
    if runtime is not None and runtime.cache is not None:
        return CachedOnnxSlowPolicy(folder, runtime)
    if folder.manifest.kind is Kind.CHUNK:
        return ChunkAsSlow(OnnxChunkPolicy(folder, runtime))
    return OnnxSlowPolicy(folder, runtime)


def load_fast(
    path: Path, runtime: PolicyRuntime | None = None, *, tells_age: bool | None = None
) -> FastPolicy:
    """Return what runs fast: the fast half, or what hands out the rows of a policy in one piece.

    Args:
        path: of the folder.
        runtime: where and how it runs.
        tells_age: whether the fast half is told how old its latent is (``OnnxFastPolicy``); None:
            up to the age that the manifest says.

    Raises:
        ConfigError: if the export is refused.
    """
    folder = open_policy(path)
    if folder.manifest.kind is Kind.CHUNK:
        return RowsAsFast(folder)
    return OnnxFastPolicy(folder, runtime, tells_age=tells_age)


def load_instruction_check(path: Path) -> InstructionCheck:
    """Return what knows which instructions an export understands.

    Raises:
        ConfigError: if manifest or vocabulary are refused.
    """
    return OnnxInstructionCheck(open_policy(path))
