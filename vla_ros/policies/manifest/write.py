# SPDX-License-Identifier: Apache-2.0
"""Writes a manifest beside exported graphs: fills in the hashes and checks what results."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from vla_ros.errors import ConfigError
from vla_ros.policies.manifest.files import MANIFEST, contained, open_policy
from vla_ros.policies.manifest.parse import parse_manifest
from vla_ros.policies.manifest.schema import CACHE_GRAPHS, FORMAT

_BLOCK_BYTES = 1 << 20


class _PlainDumper(yaml.SafeDumper):
    """Writes a value out wherever it stands: readers refuse aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def write_manifest(folder: Path, description: Mapping[str, Any]) -> Path:
    """Write ``manifest.yaml`` into a folder and return its path.

    Args:
        folder: holds the graphs and every other file.
        description: what the manifest says, without ``format`` and the hashes of files; ``files``
            may be a list of names.

    Raises:
        ConfigError: if a file is missing or lies outside, or the manifest would be refused.
    """
    data = copy.deepcopy(dict(description))
    cache = data.get("cache", {})
    graphs = data.get("graphs", {}) | {k: cache[k] for k in CACHE_GRAPHS if k in cache}
    for name, graph in graphs.items():
        if not isinstance(graph, dict) or "file" not in graph:
            raise ConfigError(f"graph {name} needs a file")
        graph["sha256"] = _sha256(folder, str(graph["file"]))
    data["files"] = {name: _sha256(folder, str(name)) for name in data.get("files", ())}
    try:
        text = yaml.dump(
            {"format": FORMAT} | data, Dumper=_PlainDumper, sort_keys=False, allow_unicode=True
        )
    except yaml.YAMLError as error:
        raise ConfigError(f"a manifest has texts, numbers, lists and mappings: {error}") from error
    parse_manifest(text)
    path = folder / MANIFEST
    path.write_text(text, encoding="utf-8")
    open_policy(path)
    return path


def _sha256(folder: Path, name: str) -> str:
    digest = hashlib.sha256()
    with contained(folder, name).open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
