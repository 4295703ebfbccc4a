# SPDX-License-Identifier: Apache-2.0
"""Policies by name, or by the folder of an export; each is imported only when asked for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from vla_ros.errors import ConfigError
from vla_ros.policies.base import FastPolicy, InstructionCheck, SlowPolicy
from vla_ros.share import find_shared

if TYPE_CHECKING:
    from vla_ros.policies.onnx.session import PolicyRuntime

CLASSICAL = "classical"
LEARNED = "pick-place"
DEFAULT_POLICY = LEARNED
SHIPPED = (LEARNED,)  # exports that come with the package, by their folder in models/
EXPORTED = "onnx:"
REMOTE = "remote:"
ALLOWED = (
    f"one of {', '.join((*SHIPPED, CLASSICAL))}, onnx:<folder of an export>, "
    "the path of a manifest.yaml, or remote:<address of a server>"
)
_MANIFEST = "manifest.yaml"


def resolve_policy_name(name: str) -> str:
    """Return the name of a policy, with path or domain spelled out.

    Other processes, which start elsewhere or in a domain of their own, then find the same one.

    Raises:
        ConfigError: if there is no such policy.
    """
    if name == CLASSICAL:
        return name
    if name.startswith(REMOTE):
        from vla_ros.policies.remote.link import resolve_address

        return f"{REMOTE}{resolve_address(name.removeprefix(REMOTE))}"
    folder = policy_folder(name)
    if folder is None:
        raise ConfigError(f"policy must be {ALLOWED}, got {name!r}")
    if not (folder / _MANIFEST).is_file():
        raise ConfigError(f"policy {name!r}: there is no {folder / _MANIFEST}")
    return name if name in SHIPPED else f"{EXPORTED}{folder.resolve()}"


def verify_policy(name: str) -> None:
    """Check that every file of a policy is there and the one of its manifest; it is not run.

    Raises:
        ConfigError: if there is none of this name, or a file is missing, truncated or changed.
    """
    name = resolve_policy_name(name)
    folder = policy_folder(name)
    if folder is None:
        return
    from vla_ros.policies.manifest.files import open_policy

    policy = open_policy(folder)
    for file in policy.manifest.all_files:
        policy.verify(file)


def demand_cache(name: str) -> None:
    """Check that the slow half of a policy can be run with a cache, by its manifest alone.

    Raises:
        ConfigError: if it cannot, saying why.
    """
    if name.startswith(REMOTE):
        raise ConfigError(
            f"policy {name!r} computes elsewhere: a cache is asked for there, by "
            "vla-ros policy serve --cache"
        )
    folder = policy_folder(resolve_policy_name(name))
    if folder is None:
        raise ConfigError(f"policy {name!r} has no cache: only exports have one")
    from vla_ros.policies.manifest.files import open_policy

    open_policy(folder).manifest.demand_cache()


def make_slow_policy(name: str, runtime: PolicyRuntime | None = None) -> SlowPolicy:
    """Return a new slow policy.

    Args:
        name: see ``ALLOWED``.
        runtime: where and how an export runs, and whether with a cache.

    Raises:
        ConfigError: if there is none of this name, its export is refused, or it has no cache and
            should be run with one.
        PolicyError: if nobody serves it.
    """
    if runtime is not None and runtime.cache is not None:
        demand_cache(name)
    if name == CLASSICAL:
        from vla_ros.policies.classical_slow import ClassicalSlowPolicy

        return ClassicalSlowPolicy()
    if name.startswith(REMOTE):
        from vla_ros.policies.remote.client import RemoteSlowPolicy

        return RemoteSlowPolicy(name.removeprefix(REMOTE))
    folder = policy_folder(name)
    if folder is None:
        raise ConfigError(f"slow policy must be {ALLOWED}, got {name!r}")
    from vla_ros.policies.onnx.load import load_slow

    return load_slow(folder, runtime)


def make_fast_policy(name: str, runtime: PolicyRuntime | None = None) -> FastPolicy:
    """Return a new fast policy.

    Args:
        name: see ``ALLOWED``.
        runtime: where and how an export runs.

    Raises:
        ConfigError: if there is none of this name, or its export is refused.
    """
    if name == CLASSICAL:
        from vla_ros.policies.classical_fast import ClassicalFastPolicy

        return ClassicalFastPolicy()
    if name.startswith(REMOTE):
        from vla_ros.policies.remote.client import RemoteFastPolicy

        return RemoteFastPolicy(name.removeprefix(REMOTE))
    folder = policy_folder(name)
    if folder is None:
        raise ConfigError(f"fast policy must be {ALLOWED}, got {name!r}")
    from vla_ros.policies.onnx.load import load_fast

    return load_fast(folder, runtime)


def make_instruction_check(name: str) -> InstructionCheck:
    """Return what knows which instructions a policy understands, without loading weights.

    Raises:
        ConfigError: if there is none of this name, or its export is refused.
    """
    folder = policy_folder(name)
    if folder is None:
        return make_slow_policy(name)
    from vla_ros.policies.onnx.load import load_instruction_check

    return load_instruction_check(folder)


def policy_folder(name: str) -> Path | None:
    """Return the folder of the export that a name stands for; None if it stands for none.

    Raises:
        ConfigError: if it stands for one that comes with the package and is not there.
    """
    if name in SHIPPED:
        return _shipped_folder(name)
    if name.startswith(EXPORTED):
        path = Path(name.removeprefix(EXPORTED)).expanduser()
    elif Path(name).name == _MANIFEST:
        path = Path(name).expanduser()
    else:
        return None
    return path.parent if path.name == _MANIFEST else path


def _shipped_folder(name: str) -> Path:
    try:
        return find_shared(f"models/{name}/{_MANIFEST}").parent
    except ConfigError as error:
        raise ConfigError(
            f"policy {name!r} has no weights here: {error}. Take the folder models/{name} from the "
            "repository, or make it: vla-ros policy demos, train, export (docs/learned-policy.md). "
            f"Without weights there is policy {CLASSICAL} (--policy {CLASSICAL})"
        ) from error
