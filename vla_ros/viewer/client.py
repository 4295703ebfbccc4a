# SPDX-License-Identifier: Apache-2.0
"""A viewer without eyes: takes everything the live view sends, draws nothing. For measurements."""

from __future__ import annotations

import os
import threading
from importlib.metadata import version

import msgspec
from websockets.exceptions import WebSocketException
from websockets.sync.client import connect
from websockets.typing import Subprotocol

_RETRY_S = 0.3
_NICE = 19
# What a browser says first; the live view begins to send when it knows where somebody looks from.
_CAMERA = {
    "type": "ViewerCameraMessage",
    "wxyz": (1.0, 0.0, 0.0, 0.0),
    "position": (1.5, 1.0, 1.0),
    "fov": 1.0,
    "near": 0.1,
    "far": 100.0,
    "image_height": 800,
    "image_width": 1280,
    "look_at": (0.4, 0.0, 0.1),
    "up_direction": (0.0, 0.0, 1.0),
}


class BlindViewer:
    """Connects to the live view as soon as it answers and reads until stopped.

    Thread-safety: the reading takes place in a thread of its own.
    """

    def __init__(self, port: int) -> None:
        self.received_bytes = 0
        self._url = f"ws://127.0.0.1:{port}"
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="blind viewer", daemon=True)

    def __enter__(self) -> BlindViewer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(timeout=3.0)

    def _run(self) -> None:
        # Where a person watches, the browser has a processor of its own.
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        protocol = Subprotocol(f"viser-v{version('viser')}")
        while not self._stopping.is_set():
            try:
                with connect(self._url, subprotocols=[protocol], max_size=None) as socket:
                    socket.send(msgspec.msgpack.encode(_CAMERA))
                    self._read(socket)
            except (OSError, WebSocketException):
                self._stopping.wait(_RETRY_S)

    def _read(self, socket: object) -> None:
        while not self._stopping.is_set():
            try:
                self.received_bytes += len(socket.recv(timeout=0.5))  # type: ignore[attr-defined]
            except TimeoutError:
                continue
