# SPDX-License-Identifier: Apache-2.0
"""Handing a latent to another process: shared-memory ring against ROS topic, in the same run."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

import vla_ros_core as core
from vla_ros.bench.loop_probe import RATE_HZ, Lateness, LoopProbe
from vla_ros.bench.measurement import Measurement, compared
from vla_ros.bench.peers import Durations, Handover, run_peers

RING = "vla_ros.bench.ring_peer"
TOPIC = "vla_ros.nodes.topic_peer"
SIZES = (("64KiB", 64 << 10, 500), ("16MiB", 16 << 20, 30))
# Alternating, so that a machine that is busy for a while is so for both.
_ROUNDS = 3
_COLD_GAP_S = 0.02
_JITTER_GAP_S = 0.1
_TARGET = 1.0 / 20.0


@dataclass(frozen=True)
class Series:
    """What one size took by each means [us]."""

    polling: Durations
    sleeping: Durations
    cold: Durations
    topic: Durations
    topic_cold: Durations


@contextmanager
def ros_environment() -> Iterator[Mapping[str, str]]:
    """Give variables for a ROS domain of its own, with the transports that Fast DDS chooses."""
    from vla_ros.nodes.processes import run_environment, take_domain

    domain, lock = take_domain()
    try:
        transports = {"FASTDDS_BUILTIN_TRANSPORTS": "DEFAULT"}
        yield os.environ | run_environment(domain) | transports
    finally:
        lock.close()


def ring_name(what: str) -> str:
    """Return the name of a ring of this process, and remove what an earlier one left there."""
    name = f"vla_ros.bench{os.getpid()}.{what}"
    for suffix in ("", ".answer", ".sent"):
        core.ShmRing.unlink(name + suffix)
    return name


def measure_handovers(repeats: int) -> list[Measurement]:
    """Return the times of both sizes, and what 64 KiB ten times a second cost a 500 Hz loop."""
    results = []
    with ros_environment() as environment:
        for label, size, count in SIZES:
            series = _measure(size, min(repeats, count), dict(environment))
            results += _compare(label, series)
        results.append(_jitter(dict(environment)))
    return results


def _measure(size: int, count: int, environment: dict[str, str]) -> Series:
    means = {
        "polling": (RING, (), 0.0),
        "sleeping": (RING, ("wait",), 0.0),
        "cold": (RING, (), _COLD_GAP_S),
        "topic": (TOPIC, (), 0.0),
        "topic_cold": (TOPIC, (), _COLD_GAP_S),
    }
    rounds: dict[str, list[Durations]] = {name: [] for name in means}
    for number in range(_ROUNDS):
        for name, (module, options, gap_s) in means.items():
            channel = ring_name(name) if module == RING else f"handover_{name}_{number}"
            n = count if gap_s == 0.0 else min(count, 50)
            series = Handover(channel=channel, bytes=size, count=n, gap_s=gap_s)
            rounds[name].append(run_peers(module, series, options=options, environment=environment))
    return Series(**{name: _middle(of_all) for name, of_all in rounds.items()})


def _middle(rounds: list[Durations]) -> Durations:
    """Return the round with the middle median, and all rounds' payloads and torn ones."""
    middle = sorted(rounds, key=lambda d: d.p50)[len(rounds) // 2]
    return replace(middle, n=sum(d.n for d in rounds), torn=sum(d.torn for d in rounds))


def _compare(label: str, s: Series) -> list[Measurement]:
    torn = s.polling.torn + s.sleeping.torn + s.cold.torn
    handover = compared(
        f"latent.handover_{label}_p50",
        s.polling.p50,
        s.topic.p50,
        "us",
        s.polling.n,
        "between two processes, one after the other, from the start of the write, copy included, "
        "until a polling reader holds a valid view; alternative: publish of array('B') to callback "
        f"by rclpy and Fast DDS. After pauses of 20 ms: {s.cold.p50:.1f} us against "
        f"{s.topic_cold.p50:.1f} us. Torn: {torn}",
    )
    sleeping = compared(
        f"latent.handover_{label}_waiting_p50",
        s.sleeping.p50,
        s.topic.p50,
        "us",
        s.sleeping.n,
        "the same with a reader that sleeps on the futex",
    )
    return [
        replace(handover, ours_p99=s.polling.p99, alternative_p99=s.topic.p99, target=_TARGET),
        replace(sleeping, ours_p99=s.sleeping.p99, alternative_p99=s.topic.p99),
    ]


def _jitter(environment: dict[str, str]) -> Measurement:
    size, count = 16 << 20, 40
    with LoopProbe() as idle:
        _sleep(count * _JITTER_GAP_S)
    ring = Handover(channel=ring_name("jitter"), bytes=size, count=count, gap_s=_JITTER_GAP_S)
    with LoopProbe() as with_ring:
        run_peers(RING, ring, options=("wait",))
    topic = Handover(channel="handover_jitter", bytes=size, count=count, gap_s=_JITTER_GAP_S)
    with LoopProbe() as with_topic:
        run_peers(TOPIC, topic, environment=environment)
    return compared(
        f"latent.jitter_{RATE_HZ}Hz_p99",
        max(with_ring.result.p99, 0.001),
        max(with_topic.result.p99, 0.001),
        "us",
        with_ring.result.n,
        f"lateness of a loop at {RATE_HZ} Hz while 16 MiB are handed over ten times a second; "
        f"alternative: by topic. {_text('alone', idle.result)}; {_text('ring', with_ring.result)}; "
        f"{_text('topic', with_topic.result)}",
    )


def _text(what: str, late: Lateness) -> str:
    return f"{what}: p50 {late.p50:.0f}, p99 {late.p99:.0f}, max {late.max:.0f} us"


def _sleep(seconds: float) -> None:
    core.sleep_until_ns(core.monotonic_ns() + round(seconds * 1e9))
