# SPDX-License-Identifier: Apache-2.0
"""Files of config/ros2_control agree with the parameters that the plugins declare."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config" / "ros2_control"
PLUGIN = ROOT / "controllers" / "plugin"
FILES = sorted(CONFIG.glob("*.yaml"))
TYPES = {
    "vla_ros_controllers/CartesianImpedanceController": "cartesian_impedance",
    "vla_ros_controllers/JointImpedanceController": "joint_impedance",
    "vla_ros_controllers/AdmittanceController": "admittance",
}


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield parameters under their full names; a declaration is a leaf."""
    for name, value in values.items():
        if isinstance(value, dict) and "type" not in value:
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def declared(namespace: str) -> dict[str, Any]:
    """Declarations of a plugin by full name."""
    text = (PLUGIN / "src" / f"{namespace}_parameters.yaml").read_text(encoding="utf-8")
    return dict(flat(yaml.safe_load(text)[namespace]))


def controllers() -> list[Any]:
    cases = []
    for file in FILES:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
        for name, entry in content["controller_manager"]["ros__parameters"].items():
            if isinstance(entry, dict):
                values = content[name]["ros__parameters"]
                cases.append(pytest.param(entry["type"], values, id=f"{file.stem}-{name}"))
    return cases


@pytest.mark.parametrize(("kind", "values"), controllers())
def test_every_setting_is_declared_and_in_its_range(kind: str, values: dict[str, Any]) -> None:
    parameters = declared(TYPES[kind])
    for name, value in flat(values):
        declaration = parameters[name]
        assert ("array" in declaration["type"]) == isinstance(value, list), name
        checks = declaration.get("validation", {})
        for check in ("bounds<>", "element_bounds<>"):
            if check in checks:
                low, high = checks[check]
                numbers = value if isinstance(value, list) else [value]
                assert all(low <= number <= high for number in numbers), name


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_files_hold_no_anchors_which_parameter_files_do_not_know(file: Path) -> None:
    assert not re.search(r"(:\s+[&*]\w|<<:)", file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("namespace", sorted(TYPES.values()))
def test_every_number_has_a_range_and_every_quantity_a_unit(namespace: str) -> None:
    for name, declaration in declared(namespace).items():
        if not declaration["type"].startswith("double"):
            continue
        assert declaration["validation"], name
        assert re.search(r"\[[^\]]+\]|See a", declaration["description"]), name


def test_exported_plugins_are_those_that_are_compiled() -> None:
    exported = {
        c.get("name") for c in ElementTree.parse(PLUGIN / "vla_ros_controllers.xml").iter("class")
    }
    assert exported == set(TYPES)
    sources = "".join(p.read_text(encoding="utf-8") for p in (PLUGIN / "src").glob("*.cpp"))
    for name in exported:
        assert name.replace("/", "::") + ", controller_interface" in " ".join(sources.split())


def test_mock_arm_has_the_joints_that_its_settings_name() -> None:
    robot = ElementTree.parse(CONFIG / "mock_arm.urdf").getroot()
    moving = [j.get("name") for j in robot.findall("joint") if j.get("type") == "revolute"]
    settings = yaml.safe_load((CONFIG / "mock.yaml").read_text(encoding="utf-8"))
    assert settings["cartesian_impedance"]["ros__parameters"]["joints"] == moving
    assert [j.get("name") for j in robot.find("ros2_control").findall("joint")] == moving
