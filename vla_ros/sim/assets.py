# SPDX-License-Identifier: Apache-2.0
"""Find the FR3 model files that come with the ``franky-sim`` wheel, without importing it."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

from vla_ros.errors import ConfigError

_PACKAGE = "franky_sim"


@dataclass(frozen=True, kw_only=True)
class Fr3Assets:
    """Files of the FR3 with hand (Apache-2.0, see the NOTICE beside them).

    Attributes:
        mjcf: MJCF of the arm; it finds its meshes only if ``meshdir`` is set to ``meshes``.
        urdf: URDF of the same arm, 7 arm joints and 2 fingers.
        meshes: folder of the mesh files.
    """

    mjcf: Path
    urdf: Path
    meshes: Path


def find_fr3_assets() -> Fr3Assets:
    """Locate the FR3 model files.

    Raises:
        ConfigError: if the wheel or one of its files is missing; the message says what to install.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    locations = list(spec.submodule_search_locations or ()) if spec else []
    if not locations:
        raise ConfigError(
            "the FR3 model is missing: install it with `pip install --no-deps franky-sim==1.0.4`"
        )
    folder = Path(locations[0]) / "assets"
    assets = Fr3Assets(mjcf=folder / "fr3.xml", urdf=folder / "fr3.urdf", meshes=folder / "meshes")
    for path in (assets.mjcf, assets.urdf, assets.meshes):
        if not path.exists():
            raise ConfigError(
                f"the FR3 model is incomplete, {path.name} is missing: reinstall it with "
                "`pip install --force-reinstall --no-deps franky-sim==1.0.4`"
            )
    return assets
