# SPDX-License-Identifier: Apache-2.0
"""All demonstrations of a folder as arrays in memory; one small file each, made from its bag.

400 demonstrations of 6 s take about 0.4 GB: the wrist images as they are, the scene images as PNGs.
"""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import RecordingError
from vla_ros.learning.demo_reader import DemonstrationArrays, decode_scene, read_demonstration
from vla_ros.learning.split import SEEN_GOALS
from vla_ros.policies.colors import BOWL_COLOURS, CUBE_COLOURS
from vla_ros.recording.message_types import MessageTypes

CACHE_FOLDER = "arrays"
_FORMAT = 1


def cache_demonstration(bag: Path, types: MessageTypes | None = None) -> Path:
    """Write the arrays of a bag into ``arrays/<name>.npz`` beside it, unless they are there.

    A demonstration that failed becomes a file without frames.

    Raises:
        RecordingError: if the bag is not a complete demonstration.
    """
    path = bag.parent / CACHE_FOLDER / f"{bag.name}.npz"
    if path.is_file():
        return path
    arrays = read_demonstration(bag, types)
    path.parent.mkdir(exist_ok=True)
    temporary = path.with_suffix(".tmp.npz")
    packed = {} if arrays is None else _pack(arrays)
    packed["format"] = np.array(_FORMAT)
    np.savez(temporary, allow_pickle=False, **packed)
    temporary.replace(path)
    return path


@dataclass(frozen=True)
class Dataset:
    """Demonstrations one after the other.

    Attributes:
        arrays: each array of ``DemonstrationArrays`` over all demonstrations, by name; times and
            poses as float32. ``newest_frame`` counts frames over all demonstrations.
        first_frame, first_step: (E + 1,) where each demonstration begins.
        scene_bytes, scene_start: PNGs one after the other; (F + 1,) where each begins.
    """

    arrays: dict[str, NDArray[Any]]
    first_frame: NDArray[np.int64]
    first_step: NDArray[np.int64]
    scene_bytes: NDArray[np.uint8]
    scene_start: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first_frame) - 1

    def scene(self, frame: int) -> NDArray[np.uint8]:
        """Return the scene image (112, 224, 3) of a frame."""
        data = self.scene_bytes[self.scene_start[frame] : self.scene_start[frame + 1]]
        return decode_scene(data)


def load_dataset(paths: Sequence[Path]) -> Dataset:
    """Read the files of ``cache_demonstration``; failed demonstrations are left out.

    Raises:
        RecordingError: if a file is damaged, of another format or of a held-out goal, or if there
            is no demonstration at all.
    """
    parts = [part for path in paths if (part := _read(path))]
    if not parts:
        raise RecordingError("there is no successful demonstration to train on")
    frames = np.cumsum([0] + [len(part["frame_s"]) for part in parts])
    steps = np.cumsum([0] + [len(part["step_s"]) for part in parts])
    sizes = np.concatenate([part["scene_sizes"] for part in parts])
    names = [name for name in parts[0] if name not in ("scene_bytes", "scene_sizes", "format")]
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in names}
    counts = np.diff(steps)
    arrays["newest_frame"] += np.repeat(frames[:-1], counts)
    arrays["goal"] = arrays["goal"].reshape(-1, 2)
    return Dataset(
        arrays=arrays,
        first_frame=frames,
        first_step=steps,
        scene_bytes=np.concatenate([part["scene_bytes"] for part in parts]),
        scene_start=np.concatenate([[0], np.cumsum(sizes)]),
    )


def _pack(arrays: DemonstrationArrays) -> dict[str, NDArray[Any]]:
    packed: dict[str, NDArray[Any]] = {}
    for field in fields(arrays):
        value = getattr(arrays, field.name)
        if field.name in ("scene", "instruction"):
            continue
        packed[field.name] = value.astype(np.float32) if value.dtype == np.float64 else value
    packed["scene_bytes"] = np.frombuffer(b"".join(arrays.scene), dtype=np.uint8)
    packed["scene_sizes"] = np.array([len(data) for data in arrays.scene])
    return packed


def _read(path: Path) -> dict[str, NDArray[Any]]:
    """Return the arrays of one file; nothing if the demonstration failed."""
    try:
        with np.load(path, allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RecordingError(f"{path}: damaged, delete it to make it anew: {error}") from error
    if int(found.get("format", -1)) != _FORMAT:
        raise RecordingError(f"{path}: of another format, delete it to make it anew")
    if "step_s" not in found:
        return {}
    cube, bowl = found["goal"]
    named = (CUBE_COLOURS[cube], BOWL_COLOURS[bowl])
    if named not in {(goal.cube_colour, goal.bowl_colour) for goal in SEEN_GOALS}:
        raise RecordingError(f"{path}: {named} is held out and must not be trained on")
    return found
