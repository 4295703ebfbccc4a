# SPDX-License-Identifier: Apache-2.0
"""Compiles the scene once per run, so that no other process has to."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class SceneFiles:
    """Where a compiled scene lies: the model for MuJoCo and its description for everyone else."""

    model: Path
    info: Path


def prepare_scene(folder: Path) -> SceneFiles:
    """Compile the FR3 scene into ``folder`` and return its files.

    Raises:
        ConfigError: if model files are missing.
    """
    # Imported here: whoever only wants the paths' type does not load MuJoCo.
    from vla_ros.sim.scene import build_scene, describe_scene, save_model

    folder.mkdir(parents=True, exist_ok=True)
    model = build_scene()
    files = SceneFiles(folder / "scene.mjb", folder / "scene.json")
    save_model(model, files.model)
    describe_scene(model).save(files.info)
    return files
