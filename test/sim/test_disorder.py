# SPDX-License-Identifier: Apache-2.0
"""Whatever arrives in whatever order: no row after its expiry, of an old epoch or instruction."""

from __future__ import annotations

import pytest
from disorder import RATE_HZ, STRATEGIES, World
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from robot_rig import RobotRig

from vla_ros.embodiment.robot import load_robot

pytestmark = pytest.mark.sim

BYTE = st.integers(0, 255)
SEQUENCES = st.lists(st.tuples(BYTE, BYTE, BYTE, BYTE), min_size=4, max_size=24)
CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    rig = RobotRig(load_robot("fr3"), tmp_path_factory.mktemp("disorder"), RATE_HZ)
    yield World(rig)
    rig.close()


def check(world: World, n: int) -> None:
    before = world.counts["sequences"]

    @settings(max_examples=n, deadline=None, suppress_health_check=CHECKS, database=None)
    @given(SEQUENCES, st.booleans(), st.sampled_from(STRATEGIES))
    def no_rule_is_broken(operations, is_fast, strategy):
        assert world.run(operations, is_fast=is_fast, strategy=strategy) == []

    no_rule_is_broken()
    assert world.counts["sequences"] - before >= n
    # The sequences must get somewhere: an arm that never moves breaks no rule.
    assert world.counts["ticks that executed a row"] > 0.1 * world.counts["ticks"]


def test_no_rule_is_broken_by_a_few_hundred_sequences(world):
    check(world, 200)


@pytest.mark.slow
def test_no_rule_is_broken_by_ten_thousand_sequences(world):
    check(world, 10_000)
