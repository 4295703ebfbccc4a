# SPDX-License-Identifier: Apache-2.0
"""Policies by name, or by the folder of an export; each is imported only when asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vla_ros.errors import ConfigError
from vla_ros.policies.base import FastPolicy, InstructionCheck, SlowPolicy

if TYPE_CHECKING:
    from vla_ros.policies.onnx.session import PolicyRuntime

SLOW_POLICIES = ("classical",)
FAST_POLICIES = ("classical",)
EXPORTED = "onnx:"
REMOTE = "remote:"
ALLOWED = (
    "one of classical, onnx:<folder of an export>, the path of a manifest.yaml, "
    "or remote:<address of a server>"
)
_MANIFEST = "manifest.yaml"


def resolve_policy_name(name: str) -> str:
    """Return the name of a policy, with the path of an export made absolute.

    Other processes, which start elsewhere, then find the same one.

    Raises:
        ConfigError: if there is no such policy.
    """
    if name in SLOW_POLICIES:
        return name
    if name.startswith(REMOTE):
        from vla_ros.policies.remote.link import parse_address

        parse_address(name.removeprefix(REMOTE))
        return name
    folder = _folder_of(name)
    if folder is None:
        raise ConfigError(f"policy must be {ALLOWED}, got {name!r}")
    if not (folder / _MANIFEST).is_file():
        raise ConfigError(f"policy {name!r}: there is no {folder / _MANIFEST}")
    return f"{EXPORTED}{folder.resolve()}"


def make_slow_policy(name: str, runtime: PolicyRuntime | None = None) -> SlowPolicy:
    """Return a new slow policy.

    Args:
        name: one of ``SLOW_POLICIES``, ``onnx:<folder>``, the path of a ``manifest.yaml``, or
            ``remote:<address>``.
        runtime: where and how an export runs.

    Raises:
        ConfigError: if there is none of this name, or its export is refused.
        PolicyError: if nobody serves it.
    """
    if name == "classical":
        from vla_ros.policies.classical_slow import ClassicalSlowPolicy

        return ClassicalSlowPolicy()
    if name.startswith(REMOTE):
        from vla_ros.policies.remote.client import RemoteSlowPolicy

        return RemoteSlowPolicy(name.removeprefix(REMOTE))
    folder = _folder_of(name)
    if folder is None:
        raise ConfigError(f"slow policy must be {ALLOWED}, got {name!r}")
    from vla_ros.policies.onnx.load import load_slow

    return load_slow(folder, runtime)


def make_fast_policy(name: str, runtime: PolicyRuntime | None = None) -> FastPolicy:
    """Return a new fast policy.

    Args:
        name: one of ``FAST_POLICIES``, ``onnx:<folder>``, the path of a ``manifest.yaml``, or
            ``remote:<address>``.
        runtime: where and how an export runs.

    Raises:
        ConfigError: if there is none of this name, or its export is refused.
    """
    if name == "classical":
        from vla_ros.policies.classical_fast import ClassicalFastPolicy

        return ClassicalFastPolicy()
    if name.startswith(REMOTE):
        from vla_ros.policies.remote.client import RemoteFastPolicy

        return RemoteFastPolicy(name.removeprefix(REMOTE))
    folder = _folder_of(name)
    if folder is None:
        raise ConfigError(f"fast policy must be {ALLOWED}, got {name!r}")
    from vla_ros.policies.onnx.load import load_fast

    return load_fast(folder, runtime)


def make_instruction_check(name: str) -> InstructionCheck:
    """Return what knows which instructions a policy understands, without loading weights.

    Raises:
        ConfigError: if there is none of this name, or its export is refused.
    """
    folder = None if name in SLOW_POLICIES else _folder_of(name)
    if folder is None:
        return make_slow_policy(name)
    from vla_ros.policies.onnx.load import load_instruction_check

    return load_instruction_check(folder)


def _folder_of(name: str) -> Path | None:
    """Return the folder that a name stands for; None if it stands for none."""
    if name.startswith(EXPORTED):
        path = Path(name.removeprefix(EXPORTED)).expanduser()
    elif Path(name).name == _MANIFEST:
        path = Path(name).expanduser()
    else:
        return None
    return path.parent if path.name == _MANIFEST else path
