# SPDX-License-Identifier: Apache-2.0
"""docs/policies.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

from vla_ros.policies.action_space import ROTATION_COLUMNS
from vla_ros.policies.manifest.parse import parse_manifest
from vla_ros.policies.manifest.schema import Role
from vla_ros.policies.onnx.providers import AUTO, PROVIDERS
from vla_ros.policies.state_vector import FIELDS

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")


def named_in_tables() -> set[str]:
    rows = [line for line in TEXT.splitlines() if line.startswith("| `")]
    return {name for row in rows for name in re.findall(r"`([a-z0-9_]+)`", row.split(" | ")[0])}


def test_example_is_a_manifest():
    example = re.search(r"```yaml\n(.*?)```", TEXT, re.DOTALL).group(1)
    whole = re.sub(r"\b[0-9a-f]{4}\.\.\.", "a" * 64, example)
    manifest = parse_manifest(whole)
    assert manifest.acting.output(Role.ACTIONS).size == (1, 16, manifest.actions.columns)


def test_every_role_field_and_format_is_in_a_table():
    named = named_in_tables()
    expected = {role.value for role in Role} | set(FIELDS) | set(ROTATION_COLUMNS)
    expected |= set(PROVIDERS) - {AUTO}
    assert expected <= named
