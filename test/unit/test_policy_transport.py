# SPDX-License-Identifier: Apache-2.0
"""Asking a policy, or two that are composed, in other processes is measured."""

from __future__ import annotations

from vla_ros.bench.policy_composition import measure_composition
from vla_ros.bench.policy_transport import measure_transport


def test_both_sockets_are_measured() -> None:
    results = measure_transport(1)
    assert [r.name for r in results] == ["policy.transport_unix", "policy.transport_tcp"]
    assert all(r.ours_p99 >= r.ours > 0.0 for r in results)


def test_composing_two_parents_elsewhere_is_measured_beside_two_here() -> None:
    (result,) = measure_composition(1)
    assert result.name == "policy.composition_remote"
    assert result.ours > result.alternative > 0.0
