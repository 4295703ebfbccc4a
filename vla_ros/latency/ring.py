# SPDX-License-Identifier: Apache-2.0
"""Latents in shared memory: one writer, many readers, nothing copied on the way out.

A reader looks at the tensors where the writer put them and asks afterwards whether they were still
the same. With 4 slots and a writer at up to 10 Hz that leaves at least 300 ms; who needs longer
copies. Faults and what is done about them: ``docs/latent-buffer.md``.
"""

from __future__ import annotations

import enum
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

import vla_ros_core as core
from vla_ros.errors import OverwrittenError, ShapeError
from vla_ros.latency.codec import Tensors, decode_tensors, encode_into, encoded_bytes
from vla_ros.latency.stamp import LatencyStamp
from vla_ros.types import Latent

SLOTS = 4
MAX_LATENT_BYTES = 32 << 20


class LatentWriter:
    """Writes latents into a ring; the only one who does.

    Raises:
        vla_ros_core.Error: if another writer lives, /dev/shm is full or the file is not ours.

    Thread-safety: one thread.
    """

    def __init__(
        self, name: str, payload_bytes: int, *, slots: int = SLOTS, schema_hash: int = 0
    ) -> None:
        self._ring = core.ShmRing.create(name, slots, payload_bytes, schema_hash)

    def write(self, tensors: Tensors, stamp: LatencyStamp) -> int:
        """Publish tensors, each value copied once; return the number of the entry.

        Raises:
            ShapeError: if they do not fit into a slot or cannot be written at all.
        """
        room = self._ring.payload_bytes
        record = stamp.to_bytes()
        if encoded_bytes(tensors) > room:
            raise ShapeError(
                f"latent has {encoded_bytes(tensors)} bytes, {self._ring.name} takes at most {room}"
            )
        length = encode_into(tensors, self._ring.begin_write(), self._ring.fill)
        number: int = self._ring.commit(record, length)
        return number

    def beat(self) -> None:
        """Say that the writer lives although it has nothing to write."""
        self._ring.beat()

    def close(self) -> None:
        """Give up writing; the ring stays for its readers."""
        self._ring.close()


class RingLatent:
    """A latent in its slot. As a context manager it checks, on leaving, what it was used for.

    Attributes:
        seq: number of the entry.
    """

    def __init__(self, ring: core.ShmRing, seq: int, stamp: bytes, payload: NDArray[np.uint8]):
        self._ring = ring
        self._payload = payload
        self._record = stamp
        self.seq = seq

    @property
    def stamp(self) -> LatencyStamp:
        """The stamp, a copy that was checked. Raises ``ShapeError`` if it makes no sense."""
        return LatencyStamp.from_bytes(self._record)

    @property
    def tensors(self) -> dict[str, NDArray[np.generic]]:
        """The tensors in place, read-only, at multiples of 64 bytes.

        Raises:
            OverwrittenError: if the slot has been written anew.
            ShapeError: if the payload is not tensors.
        """
        try:
            return decode_tensors(self._payload)
        except ShapeError as error:
            self.check(error)
            raise

    @property
    def payload(self) -> NDArray[np.uint8]:
        """The bytes of the tensors in place, read-only."""
        return self._payload

    def is_intact(self) -> bool:
        """Say whether everything that was read so far belongs to this entry."""
        intact: bool = self._ring.is_intact(self.seq)
        return intact

    def check(self, cause: BaseException | None = None) -> None:
        """Raise ``OverwrittenError`` if the slot has been written anew."""
        if not self.is_intact():
            raise OverwrittenError(
                f"entry {self.seq} of {self._ring.name} was overwritten while in use: "
                "use it for less time, copy it, or give the ring more slots"
            ) from cause

    def copy(self) -> Latent:
        """Return the latent with tensors of its own, which nothing overwrites.

        Raises:
            OverwrittenError: if it was overwritten before the copy was complete.
            ShapeError: if payload or stamp make no sense.
        """
        tensors = decode_tensors(self._payload.tobytes())
        self.check()
        return Latent(tensors=tensors, stamp=self.stamp)

    def __enter__(self) -> RingLatent:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Whatever went wrong inside may have gone wrong because of it.
        self.check(error)


class WriterState(enum.Enum):
    """What is known about the writer of a ring."""

    ABSENT = "no ring yet"
    ALIVE = "alive"
    SILENT = "alive, but silent for too long"
    GONE = "gone"
    REPLACED = "writes another ring of this name"


class LatentReader:
    """Reads the newest latent of a ring that may not exist yet, or may be made anew.

    Thread-safety: one thread.
    """

    def __init__(self, name: str, schema_hash: int = 0) -> None:
        self.name = name
        self.problem = ""
        self._schema_hash = schema_hash
        self._ring: core.ShmRing | None = None

    def newest(self, after_seq: int = 0) -> RingLatent | None:
        """Return the newest entry, or None if there is none newer than ``after_seq``.

        ``problem`` then says why there is no ring, if that is the reason.
        """
        ring = self._open()
        if ring is None or ring.head == after_seq:
            return None
        view = ring.view_latest()
        return None if view is None else RingLatent(ring, *view)

    def wait(self, after_seq: int, timeout_s: float) -> bool:
        """Sleep until there is an entry after ``after_seq``; False after the timeout.

        Returns at once if there is no ring to wait for.
        """
        ring = self._open()
        return ring is not None and ring.wait(after_seq, timeout_s) != 0

    def writer_state(self, now_ns: int, silent_after_ns: int) -> WriterState:
        """Say what the writer is doing; readers treat all but ALIVE as starvation."""
        ring = self._open()
        if ring is None:
            return WriterState.ABSENT
        if ring.is_replaced:
            return WriterState.REPLACED
        if not ring.writer_alive():
            return WriterState.GONE
        is_silent = now_ns - ring.heartbeat_ns > silent_after_ns
        return WriterState.SILENT if is_silent else WriterState.ALIVE

    def reopen_if_abandoned(self) -> bool:
        """Look for a new ring of the same name when this one gets no more entries.

        Returns True if there is another one, whose numbers begin anew.
        """
        old = self._ring
        if old is None or not (old.is_replaced or not old.writer_alive()):
            return False
        self._ring = None
        new = self._open()
        return new is not None and new.created_ns != old.created_ns

    def _open(self) -> core.ShmRing | None:
        if self._ring is None:
            try:
                self._ring = core.ShmRing.open(self.name, self._schema_hash)
                self.problem = ""
            except core.Error as error:
                self.problem = str(error)
        return self._ring
