# SPDX-License-Identifier: Apache-2.0
"""A training on disk: one npz file of arrays and a line of JSON. Nothing in it is code."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import ConfigError

_FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """What is needed to go on.

    Attributes:
        arrays: by name.
        step: steps taken.
        settings: what the training was started with.
    """

    arrays: dict[str, NDArray[Any]]
    step: int
    settings: Mapping[str, Any]


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write the file; a crash leaves the old one."""
    about = {"format": _FORMAT, "step": checkpoint.step, "settings": checkpoint.settings}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp.npz")
    text = np.frombuffer(json.dumps(about).encode(), dtype=np.uint8)
    np.savez(temporary, allow_pickle=False, about=text, **checkpoint.arrays)
    temporary.replace(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read the file.

    Raises:
        ConfigError: if it is missing, damaged or of another format.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(bytes(arrays.pop("about")))
        if about["format"] != _FORMAT:
            raise ConfigError(f"{path} is of another format")
        return Checkpoint(arrays, int(about["step"]), about["settings"])
    except (OSError, KeyError, TypeError, ValueError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} is no checkpoint: {error}") from error
