# SPDX-License-Identifier: Apache-2.0
"""Asking a policy in another process is measured by both kinds of socket."""

from __future__ import annotations

from vla_ros.bench.policy_transport import measure_transport


def test_both_sockets_are_measured() -> None:
    results = measure_transport(1)
    assert [r.name for r in results] == ["policy.transport_unix", "policy.transport_tcp"]
    assert all(r.ours_p99 >= r.ours > 0.0 for r in results)
