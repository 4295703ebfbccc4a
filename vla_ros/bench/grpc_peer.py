# SPDX-License-Identifier: Apache-2.0
"""Hands payloads over by gRPC, pickled, as policy servers do; needs the package grpcio."""

from __future__ import annotations

import pickle
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from vla_ros.bench.peers import Handover, Log, fill, pause, peer_main

_METHOD = "/handover/take"
_OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def send(series: Handover, options: tuple[str, ...]) -> None:
    """Call the receiver once per payload."""
    import grpc

    payload = np.empty(series.bytes, dtype=np.uint8)
    with grpc.insecure_channel(f"127.0.0.1:{series.channel}", options=_OPTIONS) as channel:
        take = channel.unary_unary(_METHOD)
        for number in range(1, series.total + 1):
            fill(payload, number)
            sent_ns = time.monotonic_ns()
            take(pickle.dumps((number, sent_ns, payload), protocol=5), wait_for_ready=True)
            pause(series.gap_s)


def receive(series: Handover, options: tuple[str, ...], ready: Callable[[], None]) -> Log:
    """Serve until every payload has come."""
    import grpc

    log, is_over = Log(), threading.Event()

    def take(request: bytes, _: Any) -> bytes:
        number, sent_ns, payload = pickle.loads(request)
        log.note(sent_ns, time.monotonic_ns(), payload, number)
        if len(log.durations_ns) == series.total:
            is_over.set()
        return b""

    server = grpc.server(ThreadPoolExecutor(1), options=_OPTIONS)
    handlers = {"take": grpc.unary_unary_rpc_method_handler(take)}
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("handover", handlers),))
    server.add_insecure_port(f"127.0.0.1:{series.channel}")
    server.start()
    ready()
    is_over.wait()
    server.stop(1.0).wait()
    return log


if __name__ == "__main__":
    peer_main(send, receive)
