# SPDX-License-Identifier: Apache-2.0
"""Readers of shared-memory rings that wait for a writer and survive its restart."""

from __future__ import annotations

import struct
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

import vla_ros_core as core
from vla_ros.errors import ShapeError
from vla_ros.perception.frame_codec import unpack_frame
from vla_ros.types import CameraFrame

_SNAPSHOT_HEADER = struct.Struct("<QqIIII")


class RingReader:
    """Reads the newest entry of a ring that may not exist yet or may be replaced.

    Thread-safety: one thread.
    """

    def __init__(self, name: str, schema_hash: int = 0) -> None:
        self.name = name
        self._schema_hash = schema_hash
        self._ring: core.ShmRing | None = None
        self._idle = 0

    def latest(self) -> tuple[int, bytes, bytes] | None:
        """Return (seq, stamp, payload), or None while nothing has been written."""
        if self._ring is None:
            try:
                self._ring = core.ShmRing.open(self.name, self._schema_hash)
            except core.Error:
                return None
        return self._ring.read_latest()

    @property
    def head(self) -> int:
        """Number of the newest entry; 0 while there is none."""
        return self._ring.head if self._ring is not None else 0

    def reopen_if_abandoned(self) -> None:
        """Look for a new ring of the same name when the writer of this one is gone."""
        ring = self._ring
        if ring is not None and (ring.is_replaced or not ring.writer_alive()):
            self._ring = None


class FrameReader:
    """The newest image of each camera, from shared memory."""

    def __init__(self, shm_prefix: str, cameras: Iterable[str]) -> None:
        self._readers = {name: RingReader(f"{shm_prefix}.image.{name}") for name in cameras}

    def latest(self) -> dict[str, CameraFrame]:
        """Return the newest frame of every camera that has one.

        Raises:
            ShapeError: if a ring holds something else than frames.
        """
        frames = {}
        for name, reader in self._readers.items():
            entry = reader.latest()
            if entry is not None:
                frames[name] = unpack_frame(entry[2])
        return frames

    def reopen_if_abandoned(self) -> None:
        """Follow cameras that were restarted with another image size."""
        for reader in self._readers.values():
            reader.reopen_if_abandoned()


def unpack_snapshot(
    payload: bytes,
) -> tuple[NDArray[np.float64], NDArray[np.float64], int, int]:
    """Return (qpos, qvel, tick_ns, scene_epoch) of a simulation snapshot.

    Raises:
        ShapeError: if the payload is cut off.
    """
    if len(payload) < _SNAPSHOT_HEADER.size:
        raise ShapeError(
            f"a snapshot has at least {_SNAPSHOT_HEADER.size} bytes, got {len(payload)}"
        )
    _, tick_ns, nq, nv, scene_epoch, _ = _SNAPSHOT_HEADER.unpack_from(payload)
    if len(payload) < _SNAPSHOT_HEADER.size + 8 * (nq + nv):
        raise ShapeError(f"a snapshot of {nq} + {nv} values is cut off after {len(payload)} bytes")
    values = np.frombuffer(payload, np.float64, nq + nv, _SNAPSHOT_HEADER.size)
    return values[:nq], values[nq:], tick_ns, scene_epoch
