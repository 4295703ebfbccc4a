# SPDX-License-Identifier: Apache-2.0
"""Turns what a crash left of a recording into a proper bag.

A killed recorder leaves a ``.partial`` folder whose MCAP file ends anywhere: no index, no metadata.
Its complete chunks are read in file order, checked against their checksums, and rewritten.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rosbags.rosbag2.metadata import parse_qos

from vla_ros.errors import RecordingError
from vla_ros.recording.bag_writer import PARTIAL_SUFFIX, BagConfig, BagWriter
from vla_ros.recording.counts import TopicAccount
from vla_ros.recording.episode import EpisodeInfo, Outcome, read_episode
from vla_ros.recording.message_types import MessageTypes

_MAGIC = b"\x89MCAP0\r\n"
_RECORD_HEADER = struct.Struct("<BQ")
_CHUNK_HEADER = struct.Struct("<QQQII")
_MESSAGE_HEADER = struct.Struct("<HIQQ")
_OP_SCHEMA, _OP_CHANNEL, _OP_MESSAGE, _OP_CHUNK = 3, 4, 5, 6


@dataclass(frozen=True, kw_only=True)
class Channel:
    """One topic of an MCAP file."""

    topic: str
    msgtype: str
    definition: str
    qos: str


@dataclass(frozen=True, kw_only=True)
class RecoveryReport:
    """What was saved.

    Attributes:
        path: the new bag.
        messages: number of messages in it.
        bad_chunks: chunks dropped because their checksum differs.
        truncated: the file ended in the middle of a record or without its index.
    """

    path: Path
    messages: int
    bad_chunks: int
    truncated: bool


class PartialMcap:
    """Reads a possibly truncated MCAP file with uncompressed chunks, as ``BagWriter`` leaves it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._schemas: dict[int, tuple[str, str]] = {}
        self._channels: dict[int, Channel] = {}
        self.bad_chunks = 0
        self.truncated = False

    def messages(self) -> Iterator[tuple[Channel, int, bytes]]:
        """Yield (channel, log time [ns], data) of every complete chunk, in file order.

        Raises:
            RecordingError: if this is no MCAP file.
        """
        if self._file.read(len(_MAGIC)) != _MAGIC:
            raise RecordingError("not an MCAP file, or nothing of it reached the disk")
        while True:
            header = self._file.read(_RECORD_HEADER.size)
            if header == _MAGIC:
                return
            if len(header) < _RECORD_HEADER.size:
                self.truncated = True
                return
            op, length = _RECORD_HEADER.unpack(header)
            body = self._file.read(length)
            if len(body) < length:
                self.truncated = True
                return
            if op == _OP_CHUNK:
                yield from self._chunk(body)

    def _chunk(self, body: bytes) -> Iterator[tuple[Channel, int, bytes]]:
        _, _, size, checksum, name_length = _CHUNK_HEADER.unpack_from(body)
        offset = _CHUNK_HEADER.size + name_length + 8
        records = body[offset:]
        if name_length or len(records) != size or (checksum and zlib.crc32(records) != checksum):
            self.bad_chunks += 1
            return
        position = 0
        while position < size:
            op, length = _RECORD_HEADER.unpack_from(records, position)
            position += _RECORD_HEADER.size
            record = records[position : position + length]
            position += length
            if op == _OP_SCHEMA:
                self._add_schema(record)
            elif op == _OP_CHANNEL:
                self._add_channel(record)
            elif op == _OP_MESSAGE:
                channel_id, _, log_time, _ = _MESSAGE_HEADER.unpack_from(record)
                if channel_id in self._channels:
                    yield self._channels[channel_id], log_time, record[_MESSAGE_HEADER.size :]

    def _add_schema(self, record: bytes) -> None:
        (schema_id,) = struct.unpack_from("<H", record)
        name, offset = _text(record, 2)
        _, offset = _text(record, offset)
        definition, _ = _text(record, offset)
        self._schemas[schema_id] = (name, definition)

    def _add_channel(self, record: bytes) -> None:
        channel_id, schema_id = struct.unpack_from("<HH", record)
        topic, offset = _text(record, 4)
        _, offset = _text(record, offset)
        (length,) = struct.unpack_from("<I", record, offset)
        end = offset + 4 + length
        offset += 4
        metadata = {}
        while offset < end:
            key, offset = _text(record, offset)
            metadata[key], offset = _text(record, offset)
        if schema_id in self._schemas:
            msgtype, definition = self._schemas[schema_id]
            qos = metadata.get("offered_qos_profiles", "")
            self._channels[channel_id] = Channel(
                topic=topic, msgtype=msgtype, definition=definition, qos=qos
            )


def find_partials(run_folder: Path) -> list[Path]:
    """Return the ``.partial`` folders of a run, oldest name first."""
    return sorted(p for p in run_folder.glob(f"*{PARTIAL_SUFFIX}") if p.is_dir())


def recover_partial(
    path: Path, types: MessageTypes | None = None, config: BagConfig | None = None
) -> RecoveryReport:
    """Rewrite a ``.partial`` folder as a proper bag beside it, outcome "recovered".

    The partial folder is left as it is. Counts of lost messages are not known for a recovered
    episode: every message is listed as uncounted.

    Raises:
        RecordingError: if there is no readable message, or the bag cannot be written.
    """
    files = sorted(path.glob("*.mcap"))
    if not files:
        raise RecordingError(f"{path}: no .mcap file to recover")
    types = types or MessageTypes()
    info = read_episode(path)
    name = path.name.removesuffix(PARTIAL_SUFFIX)
    with files[0].open("rb") as file:
        source = PartialMcap(file)
        first = next(source.messages(), None)
        if first is None:
            raise RecordingError(f"{files[0]}: holds no complete chunk")
        file.seek(0)
        source = PartialMcap(file)
        writer = BagWriter(path.parent, f"{name}_recovered", info, types, config)
        try:
            info, count = _copy(source, writer, info, types)
        except Exception:
            writer.discard()
            raise
    return RecoveryReport(
        path=writer.close(info),
        messages=count,
        bad_chunks=source.bad_chunks,
        truncated=source.truncated,
    )


def _copy(
    source: PartialMcap, writer: BagWriter, info: EpisodeInfo, types: MessageTypes
) -> tuple[EpisodeInfo, int]:
    counts: dict[str, int] = {}
    msgtypes: dict[str, str] = {}
    end_ns = info.start_ns
    for channel, log_time, data in source.messages():
        if not writer.has_topic(channel.topic):
            types.ensure_from_text(channel.msgtype, channel.definition)
            writer.add_topic(channel.topic, channel.msgtype, parse_qos(channel.qos))
            msgtypes[channel.topic] = channel.msgtype
        writer.write(channel.topic, log_time, data)
        counts[channel.topic] = counts.get(channel.topic, 0) + 1
        end_ns = max(end_ns, log_time)
    topics = {t: TopicAccount(uncounted=n) for t, n in sorted(counts.items())}
    note = f"recovered from {writer.path.name}; outcome before: {info.outcome}"
    recovered = info.replace(
        outcome=Outcome.RECOVERED, end_ns=end_ns, topics=topics, types=msgtypes, note=note
    )
    return recovered, sum(counts.values())


def _text(data: bytes, offset: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<I", data, offset)
    end = offset + 4 + length
    return data[offset + 4 : end].decode("utf8"), end
