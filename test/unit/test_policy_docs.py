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


def test_examples_are_a_manifest():
    examples = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    plain, cached = (
        re.sub(r"\b[0-9a-f]{4}\.\.\.", "a" * 64, "".join(parts))
        for parts in (examples[:1], examples[:2])
    )
    manifest = parse_manifest(plain)
    assert manifest.acting.output(Role.ACTIONS).size == (1, 16, manifest.actions.columns)
    assert parse_manifest(cached).demand_cache().halo_cells == 4


def test_every_role_field_and_format_is_in_a_table():
    named = named_in_tables()
    expected = {role.value for role in Role} | set(FIELDS) | set(ROTATION_COLUMNS)
    expected |= set(PROVIDERS) - {AUTO}
    assert expected <= named
