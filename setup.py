# SPDX-License-Identifier: Apache-2.0
"""Package vla_ros for colcon (ament_python) and pip."""

import re
from pathlib import Path

from setuptools import find_packages, setup

PACKAGE = "vla_ros"
SHARE = f"share/{PACKAGE}"
NODES = (
    "control_node",
    "camera_node",
    "vla_node",
    "executor_node",
    "residual_node",
    "task_node",
    "supervisor_node",
    "recorder_node",
    "viewer_node",
    "latent_bridge_node",
)


def read_version() -> str:
    """Version of vla_ros/__init__.py, read without importing it."""
    text = Path(PACKAGE, "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, flags=re.MULTILINE)
    if match is None:
        raise RuntimeError("vla_ros/__init__.py states no __version__")
    return match.group(1)


def shared_files(*folders: str) -> list[tuple[str, list[str]]]:
    """Every file of the folders, for data_files, with the folders' structure kept."""
    by_folder: dict[str, list[str]] = {}
    for folder in folders:
        for path in sorted(Path(folder).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                by_folder.setdefault(f"{SHARE}/{path.parent}", []).append(str(path))
    return list(by_folder.items())


setup(
    name=PACKAGE,
    version=read_version(),
    packages=find_packages(include=[PACKAGE, f"{PACKAGE}.*"]),
    package_data={PACKAGE: ["py.typed"]},
    data_files=[
        ("share/ament_index/resource_index/packages", [f"resource/{PACKAGE}"]),
        (SHARE, ["package.xml"]),
        *shared_files("launch", "config", "urdf", "models"),
    ],
    install_requires=["numpy", "pyyaml"],
    # What policy servers of others speak, for vla_ros/bench/buffer_experiment.py only.
    extras_require={
        "bench": ["grpcio", "msgpack", "websockets"],
        "train": ["torch==2.13.0", "onnx", "onnxscript", "onnxruntime"],
    },
    python_requires=">=3.11",
    zip_safe=False,
    author="vla_ros maintainers",
    maintainer="vla_ros maintainers",
    maintainer_email="vla-ros@example.org",
    description="Asynchronous fast-slow control of robot arms by vision-language-action policies.",
    license="Apache-2.0",
    entry_points={
        "console_scripts": [
            "vla-ros = vla_ros.cli:main",
            *(f"{node} = vla_ros.nodes.{node}:main" for node in NODES),
        ]
    },
)
