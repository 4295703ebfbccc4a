# SPDX-License-Identifier: Apache-2.0
"""LatencyStamp: the 256-byte record that says how old the causes of some data are.

The layout is the table in ``docs/latency-stamp.md``. Tests check the C++ struct, the ROS message
and this module against it.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from vla_ros.errors import ShapeError

STAMP_BYTES = 256
STAMP_MAGIC = 0x534C4156  # "VALS"
STAMP_VERSION = 2

STAMP_DTYPE = np.dtype(
    [
        ("magic", "<u4"),
        ("version", "<u2"),
        ("flags", "<u2"),
        ("kind", "u1"),
        ("clock_domain", "u1"),
        ("horizon", "<u2"),
        ("confidence", "<f4"),
        ("clock_id", "V16"),
        ("seq", "<u8"),
        ("parent_seq", "<u8"),
        ("anchor_seq", "<u8"),
        ("episode_id", "<u8"),
        ("epoch", "<u4"),
        ("instruction_id", "<u4"),
        ("instruction_hash", "<u8"),
        ("model_hash", "<u8"),
        ("schema_hash", "<u8"),
        ("capture_oldest_ns", "<i8"),
        ("capture_newest_ns", "<i8"),
        ("state_ns", "<i8"),
        ("request_ns", "<i8"),
        ("infer_start_ns", "<i8"),
        ("infer_end_ns", "<i8"),
        ("publish_ns", "<i8"),
        ("target0_ns", "<i8"),
        ("dt_ns", "<i8"),
        ("delay_assumed_ns", "<i8"),
        ("soft_expire_ns", "<i8"),
        ("hard_expire_ns", "<i8"),
        ("clock_err_ns", "<i8"),
        ("committed_len", "<u2"),
        ("reserved", "V50"),
        ("crc32", "<u4"),
    ]
)
assert STAMP_DTYPE.itemsize == STAMP_BYTES
assert STAMP_DTYPE.names is not None


class StampKind(enum.IntEnum):
    """What the stamped payload is."""

    OBSERVATION = 0
    LATENT = 1
    CHUNK = 2
    TEXT = 3
    CORRECTION = 4


class ClockDomain(enum.IntEnum):
    """Which clock the instants belong to."""

    MONOTONIC = 0
    TAI = 1
    REALTIME = 2
    SIM = 3


class StampFlags(enum.IntFlag):
    """Properties of the stamped payload."""

    NONE = 0
    WARMUP = 1
    CACHED = 2
    PARTIAL = 4
    PROJECTED_STATE = 8
    RESAMPLED = 16


@dataclass(frozen=True, kw_only=True)
class LatencyStamp:
    """Provenance and age of an observation, latent or chunk. Instants are CLOCK_MONOTONIC [ns].

    ``capture_*`` are exposure times of the oldest and newest image used. ``anchor_seq`` numbers the
    robot state that the payload was computed from, ``parent_seq`` what caused it.
    Zero means "not set" for every instant and number: no event happens at boot.
    """

    kind: StampKind
    seq: int = 0
    parent_seq: int = 0
    anchor_seq: int = 0
    episode_id: int = 0
    epoch: int = 0
    instruction_id: int = 0
    instruction_hash: int = 0
    model_hash: int = 0
    schema_hash: int = 0
    capture_oldest_ns: int = 0
    capture_newest_ns: int = 0
    state_ns: int = 0
    request_ns: int = 0
    infer_start_ns: int = 0
    infer_end_ns: int = 0
    publish_ns: int = 0
    target0_ns: int = 0
    dt_ns: int = 0
    delay_assumed_ns: int = 0
    soft_expire_ns: int = 0
    hard_expire_ns: int = 0
    clock_err_ns: int = 0
    flags: StampFlags = StampFlags.NONE
    clock_domain: ClockDomain = ClockDomain.MONOTONIC
    clock_id: bytes = bytes(16)
    horizon: int = 0
    committed_len: int = 0
    confidence: float = 1.0

    def age_ns(self, now_ns: int) -> int:
        """Return how old the oldest cause is at ``now_ns`` [ns]."""
        return now_ns - self.capture_oldest_ns

    def latency_ns(self) -> int:
        """Return the time from capture to publication [ns]."""
        return self.publish_ns - self.capture_oldest_ns

    @property
    def usable_until_ns(self) -> int:
        """Last instant at which the payload may be acted on: hard expiry less clock error [ns]."""
        return self.hard_expire_ns - max(0, self.clock_err_ns)

    def speed_scale(self, now_ns: int) -> float:
        """Return how fast to move on this payload: 1, falling to 0 between soft and hard expiry.

        No soft expiry (0), or one that is not before the hard one, means 1 until the hard one.
        """
        soft_ns, hard_ns = self.soft_expire_ns, self.usable_until_ns
        if now_ns > hard_ns:
            return 0.0
        if not 0 < soft_ns < min(hard_ns, now_ns):
            return 1.0
        return 1.0 - (now_ns - soft_ns) / (hard_ns - soft_ns)

    def replace(self, **changes: object) -> LatencyStamp:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def __post_init__(self) -> None:
        if len(self.clock_id) != 16:
            raise ShapeError(f"clock_id has 16 bytes, got {len(self.clock_id)}")
        # Stored in 32 bits: rounded here, so that what comes back is equal.
        rounded = _FLOAT.unpack(_FLOAT.pack(self.confidence))[0]
        object.__setattr__(self, "confidence", rounded)

    def to_bytes(self) -> bytes:
        """Return the 256-byte record with magic, version and checksum.

        Raises:
            ShapeError: naming the field whose value does not fit.
        """
        values = [getattr(self, name) for name in _FIELDS]
        try:
            body = _RECORD.pack(STAMP_MAGIC, STAMP_VERSION, *values)
        except struct.error as error:
            raise ShapeError(f"LatencyStamp: {self._misfit()}") from error
        return body + zlib.crc32(body).to_bytes(4, "little")

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> LatencyStamp:
        """Read a record.

        Raises:
            ShapeError: if length, magic, version, checksum or a value is wrong; the message says
                which.
        """
        if len(data) != STAMP_BYTES:
            raise ShapeError(f"a LatencyStamp has {STAMP_BYTES} bytes, got {len(data)}")
        magic, version, *values = _RECORD.unpack_from(data)
        if magic != STAMP_MAGIC:
            raise ShapeError(f"not a LatencyStamp: magic {magic:#x}, expected {STAMP_MAGIC:#x}")
        if version != STAMP_VERSION:
            raise ShapeError(f"LatencyStamp version {version}, this code reads {STAMP_VERSION}")
        if zlib.crc32(data[:-4]) != int.from_bytes(data[-4:], "little"):
            raise ShapeError("LatencyStamp checksum differs: torn read or foreign writer")
        return cls.from_values(dict(zip(_FIELDS, values, strict=True)))

    @classmethod
    def from_values(cls, values: dict[str, Any]) -> LatencyStamp:
        """Return the stamp with these plain numbers, for whoever got them from outside.

        Raises:
            ShapeError: if kind or clock domain is unknown or the confidence is not finite.
        """
        try:
            values["kind"] = StampKind(values["kind"])
            values["clock_domain"] = ClockDomain(values["clock_domain"])
            values["flags"] = StampFlags(values["flags"])
        except ValueError as error:
            raise ShapeError(f"LatencyStamp: {error}") from error
        if not math.isfinite(values["confidence"]):
            raise ShapeError(f"LatencyStamp: confidence is {values['confidence']}")
        return cls(**values)

    def _misfit(self) -> str:
        for name in _FIELDS:
            dtype = STAMP_DTYPE[name]
            value = getattr(self, name)
            if dtype.kind in "iu" and not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
                return f"{name} = {value} does not fit into {dtype.name}"
        return "a value has the wrong type"


_FIELDS = tuple(n for n in STAMP_DTYPE.names if n not in ("magic", "version", "reserved", "crc32"))
_FLOAT = struct.Struct("<f")
_CODES = {"u1": "B", "u2": "H", "u4": "I", "u8": "Q", "i8": "q", "f4": "f", "V16": "16s"}
# The same table for the struct module, which is ten times faster for one record.
_RECORD = struct.Struct(
    "<"
    + "".join(
        "50x" if name == "reserved" else _CODES[STAMP_DTYPE[name].str.lstrip("<|")]
        for name in STAMP_DTYPE.names[:-1]
    )
)
assert _RECORD.size == STAMP_BYTES - 4
