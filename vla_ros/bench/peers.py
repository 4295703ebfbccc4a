# SPDX-License-Identifier: Apache-2.0
"""Two processes that hand payloads over, by whatever means, and how long each took to arrive.

Every means is a module with ``send`` and ``receive``, started as ``python -m <module> send ...``.
The time runs from just before the sender begins until the receiver holds the payload as an array;
only then is the next one sent. Every word of every payload is compared.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vla_ros.errors import VlaRosError

READY = "ready"
WARM_UP = 5


@dataclass(frozen=True, kw_only=True)
class Handover:
    """One series to hand over.

    Attributes:
        channel: name or port that both sides know.
        bytes: size of each payload, a multiple of 8.
        count: payloads that are measured; a few more come before.
        gap_s: pause of the sender between one arrival and the next payload.
    """

    channel: str
    bytes: int
    count: int
    gap_s: float = 0.0

    @property
    def total(self) -> int:
        """Payloads that are sent, with those that warm up."""
        return self.count + WARM_UP


@dataclass
class Log:
    """What a receiver noted: durations [ns] and payloads that were not whole."""

    durations_ns: list[int] = field(default_factory=list)
    torn: int = 0

    def note(self, sent_ns: int, held_ns: int, payload: NDArray[np.uint8], number: int) -> None:
        """Take one arrival."""
        self.durations_ns.append(held_ns - sent_ns)
        if not (payload.view(np.uint64) == number).all():
            self.torn += 1


def fill(payload: NDArray[np.uint8], number: int) -> None:
    """Give a payload the words that ``Log.note`` expects."""
    payload.view(np.uint64)[:] = number


@dataclass(frozen=True, kw_only=True)
class Durations:
    """Result of a series [us]."""

    p50: float
    p99: float
    max: float
    n: int
    torn: int


def run_peers(
    module: str,
    series: Handover,
    *,
    options: tuple[str, ...] = (),
    environment: dict[str, str] | None = None,
    limit_s: float = 120.0,
) -> Durations:
    """Run sender and receiver to the end and return what the receiver noted.

    Raises:
        VlaRosError: if one of them fails or takes too long; the message has its last line.
    """
    arguments = [series.channel, str(series.bytes), str(series.count), str(series.gap_s), *options]
    receiver = _start(module, "receive", arguments, environment)
    try:
        assert receiver.stdout is not None
        if receiver.stdout.readline().strip() != READY:
            raise VlaRosError(f"{module} cannot receive: {_last_line(receiver)}")
        sender = _start(module, "send", arguments, environment)
        threading.Thread(target=_end_with, args=(sender, receiver), daemon=True).start()
        try:
            output, _ = receiver.communicate(timeout=limit_s)
            sender.wait(timeout=10)
        except subprocess.TimeoutExpired as error:
            raise VlaRosError(
                f"{module}: {series.count} times {series.bytes} bytes took more than {limit_s:g} s"
            ) from error
        finally:
            sender.kill()
            sender.wait()
    finally:
        receiver.kill()
        receiver.wait()
    if receiver.returncode != 0:
        if sender.returncode > 0:
            raise VlaRosError(f"{module} cannot send: {_last_line(sender)}")
        raise VlaRosError(f"{module}: receiver ended with {receiver.returncode}")
    noted = json.loads(output.splitlines()[-1])
    values_us = np.array(noted["durations_ns"][WARM_UP:]) / 1000.0
    return Durations(
        p50=float(np.median(values_us)),
        p99=float(np.percentile(values_us, 99)),
        max=float(values_us.max()),
        n=len(values_us),
        torn=noted["torn"],
    )


def peer_main(
    send: Callable[[Handover, tuple[str, ...]], None],
    receive: Callable[[Handover, tuple[str, ...], Callable[[], None]], Log],
) -> None:
    """Run one side, as ``run_peers`` starts it."""
    side, channel, size, count, gap_s, *options = sys.argv[1:]
    series = Handover(channel=channel, bytes=int(size), count=int(count), gap_s=float(gap_s))
    if side == "send":
        send(series, tuple(options))
        return
    log = receive(series, tuple(options), lambda: _tell(READY))
    _tell(json.dumps({"durations_ns": log.durations_ns, "torn": log.torn}))


def pause(gap_s: float) -> None:
    """Wait between two payloads."""
    if gap_s > 0.0:
        time.sleep(gap_s)


def _tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _start(
    module: str, side: str, arguments: list[str], environment: dict[str, str] | None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", module, side, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def _end_with(sender: subprocess.Popen[str], receiver: subprocess.Popen[str]) -> None:
    """A receiver whose sender has failed would wait for ever."""
    if sender.wait() > 0:
        receiver.kill()


def _last_line(process: subprocess.Popen[str]) -> str:
    process.kill()
    _, errors = process.communicate()
    lines = [line for line in errors.splitlines() if line.strip()]
    return lines[-1] if lines else "it said nothing"
