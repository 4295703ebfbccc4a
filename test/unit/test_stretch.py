# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import itertools

import pytest

from vla_ros.clock import NS_PER_MS, ManualClock
from vla_ros.errors import ConfigError
from vla_ros.policies.stretch import StretchConfig, Stretcher


def _idle(clock: ManualClock, latency_ms: float) -> Stretcher:
    return Stretcher(
        StretchConfig(latency_ms=latency_ms), sleep=lambda s: clock.advance(round(s * 1e9))
    )


@pytest.mark.parametrize(("own_ms", "total_ms"), [(0, 300), (100, 300), (300, 300), (450, 450)])
def test_run_idle_takes_the_longer_of_latency_and_function(own_ms: int, total_ms: int) -> None:
    clock = ManualClock()
    start_ns = clock.now_ns()
    result = _idle(clock, 300).run(lambda: clock.advance(own_ms * NS_PER_MS), clock.now_ns)
    assert result == start_ns + own_ms * NS_PER_MS
    assert clock.now_ns() - start_ns == total_ms * NS_PER_MS


def test_run_without_latency_does_not_sleep() -> None:
    def fail(_: float) -> None:
        raise AssertionError("must not sleep")

    assert Stretcher(StretchConfig(), sleep=fail).run(lambda: 5, ManualClock().now_ns) == 5


def test_run_error_passes_at_once() -> None:
    clock = ManualClock()
    start_ns = clock.now_ns()
    with pytest.raises(ZeroDivisionError):
        _idle(clock, 300).run(lambda: 1 // 0, clock.now_ns)
    assert clock.now_ns() == start_ns


@pytest.mark.parametrize("threads", [1, 3])
def test_run_busy_computes_until_the_deadline(threads: int) -> None:
    ticks = itertools.count(0, NS_PER_MS)  # every look at the clock takes a millisecond
    config = StretchConfig(latency_ms=20, mode="busy", threads=threads)
    assert Stretcher(config).run(lambda: "done", lambda: next(ticks)) == "done"
    assert next(ticks) >= 20 * NS_PER_MS


@pytest.mark.parametrize(
    "values", [{"latency_ms": -1}, {"latency_ms": 1e9}, {"mode": "lazy"}, {"threads": 0}]
)
def test_config_out_of_range_raises(values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(values))):
        StretchConfig(**values)  # type: ignore[arg-type]
