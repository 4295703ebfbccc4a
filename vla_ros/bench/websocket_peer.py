# SPDX-License-Identifier: Apache-2.0
"""Hands payloads over by websocket and msgpack, as policy servers do; needs msgpack, websockets."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from vla_ros.bench.peers import Handover, Log, fill, pause, peer_main


def send(series: Handover, options: tuple[str, ...]) -> None:
    """Send every payload and wait for the answer."""
    import msgpack
    from websockets.sync.client import connect

    payload = np.empty(series.bytes, dtype=np.uint8)
    url = f"ws://127.0.0.1:{series.channel}"
    with connect(url, compression=None, max_size=None) as socket:
        for number in range(1, series.total + 1):
            fill(payload, number)
            sent_ns = time.monotonic_ns()
            socket.send(msgpack.packb({"n": number, "t": sent_ns, "x": payload.data}))
            socket.recv()
            pause(series.gap_s)


def receive(series: Handover, options: tuple[str, ...], ready: Callable[[], None]) -> Log:
    """Serve until every payload has come."""
    import msgpack
    from websockets.sync.server import serve

    log = Log()

    def handle(socket: Any) -> None:
        while len(log.durations_ns) < series.total:
            fields = msgpack.unpackb(socket.recv(), max_bin_len=2**31)
            payload = np.frombuffer(fields["x"], dtype=np.uint8)
            log.note(fields["t"], time.monotonic_ns(), payload, fields["n"])
            socket.send("taken")
        server.shutdown()

    with serve(handle, "127.0.0.1", int(series.channel), compression=None, max_size=None) as server:
        ready()
        server.serve_forever()
    return log


if __name__ == "__main__":
    peer_main(send, receive)
