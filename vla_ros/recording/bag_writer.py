# SPDX-License-Identifier: Apache-2.0
"""Writes one episode as a rosbag2 MCAP bag that survives crashes and never lies about success.

The bag is written in ``<name>.partial`` and renamed to ``<name>`` only after everything is on disk.
Chunks are closed by time as well as by size and handed to the operating system, so a killed process
loses at most ``chunk_period_s`` of messages; ``recovery.recover_partial`` repairs what it leaves.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionMode
from rosbags.rosbag2.storage_mcap import McapWriter

from vla_ros.clock import NS_PER_S
from vla_ros.errors import ConfigError, RecordingError
from vla_ros.recording.episode import CUSTOM_DATA_KEY, EpisodeInfo, Outcome, write_episode
from vla_ros.recording.message_types import MessageTypes

PARTIAL_SUFFIX = ".partial"
_CHUNK_CRC_OFFSET = 9 + 24  # opcode, length, start, end, uncompressed size
_GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class BagConfig:
    """Durability of a recording.

    Attributes:
        chunk_period_s: longest time [s] that messages stay in memory only.
        fsync_period_s: how often [s] the file is forced to disk, for power failures.
        min_free_bytes: recording is refused, or ends as aborted, below this free space [bytes].
    """

    chunk_period_s: float = 0.5
    fsync_period_s: float = 5.0
    min_free_bytes: int = _GIB

    def __post_init__(self) -> None:
        if not 0.01 <= self.chunk_period_s <= 60.0:
            raise ConfigError(
                f"chunk_period_s must be within 0.01..60 s, got {self.chunk_period_s}"
            )
        if not self.chunk_period_s <= self.fsync_period_s <= 3600.0:
            raise ConfigError(
                f"fsync_period_s must be within chunk_period_s..3600 s, got {self.fsync_period_s}"
            )
        if self.min_free_bytes < 0:
            raise ConfigError(f"min_free_bytes must be >= 0, got {self.min_free_bytes}")


def free_bytes(folder: Path) -> int:
    """Return the free space [bytes] of the file system that holds ``folder``."""
    return shutil.disk_usage(folder).free


class _ChecksummedMcap(McapWriter):
    """rosbags' MCAP storage with chunk checksums, rosbag2's file name, and flushing on demand."""

    def __init__(self, path: Path, compression: CompressionMode) -> None:
        super().__init__(path, compression)
        name = path.name.removesuffix(PARTIAL_SUFFIX)
        self.path = self.path.rename(path / f"{name}_0.mcap")

    def close_chunk(self) -> None:
        """Close the pending chunk and fill in its checksum, which rosbags leaves at zero."""
        checksum = zlib.crc32(self.chunk.bio.getvalue())
        start = self.bio.tell()
        super().close_chunk()
        end = self.bio.tell()
        self.bio.seek(start + _CHUNK_CRC_OFFSET)
        self.bio.write(checksum.to_bytes(4, "little"))
        self.bio.seek(end)

    def flush(self) -> None:
        """Hand everything written so far to the operating system."""
        if self.chunk.bio.tell():
            self.close_chunk()
        self.bio.flush()

    def sync(self) -> None:
        """Force the file to disk."""
        os.fdatasync(self.bio.fileno())


class BagWriter:
    """Writer of one episode. Thread-safety: one thread.

    Args:
        run_folder: folder of the run; created if missing. The bag becomes ``run_folder / name``.
        info: what is known at the start; written at once, so that a crash leaves it.
        types: definitions of the message types.
        free: returns the free bytes of a folder; injected by tests.

    Raises:
        RecordingError: if the bag exists, the disk is too full or cannot be written.
    """

    def __init__(
        self,
        run_folder: Path,
        name: str,
        info: EpisodeInfo,
        types: MessageTypes,
        config: BagConfig | None = None,
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._config = config or BagConfig()
        self._types = types
        self._free = free
        self._final = run_folder / name
        self.path = run_folder / f"{name}{PARTIAL_SUFFIX}"
        self._connections: dict[str, Connection] = {}
        self._last_flush_ns: int | None = None
        self._last_sync_ns = 0
        try:
            run_folder.mkdir(parents=True, exist_ok=True)
            if self._final.exists():
                raise RecordingError(f"{self._final} exists already, not overwriting")
            self._check_space(run_folder)
            self._writer = Writer(self.path, version=9, storage_plugin=StoragePlugin.MCAP)
            self._writer.STORAGE_PLUGINS = MappingProxyType({StoragePlugin.MCAP: _ChecksummedMcap})
            self._writer.open()
            write_episode(self.path, info)
        except RecordingError:
            raise
        except Exception as error:
            raise RecordingError(f"cannot record to {self.path}: {error}") from error
        assert isinstance(self._writer.storage, _ChecksummedMcap)
        self._storage = self._writer.storage

    def add_topic(self, topic: str, msgtype: str, qos: Sequence[Qos] = ()) -> None:
        """Declare a topic with the quality of service its publishers offer; once is enough.

        Raises:
            RecordingError: if the type has no definition or the disk refuses.
        """
        if topic in self._connections:
            return
        text, digest = self._types.definition(msgtype)
        try:
            self._connections[topic] = self._writer.add_connection(
                topic, msgtype, msgdef=text, rihs01=digest, offered_qos_profiles=tuple(qos)
            )
        except Exception as error:
            raise RecordingError(f"{self.path}: cannot add {topic}: {error}") from error

    def has_topic(self, topic: str) -> bool:
        """Return whether the topic was declared."""
        return topic in self._connections

    def write(self, topic: str, receive_ns: int, data: bytes) -> None:
        """Append one serialised (CDR) message received at ``receive_ns`` [ns], system time.

        Raises:
            RecordingError: if the topic was not declared or the disk refuses.
        """
        try:
            self._writer.write(self._connections[topic], receive_ns, data)
        except KeyError:
            raise RecordingError(f"{self.path}: {topic} was not declared") from None
        except Exception as error:
            raise RecordingError(f"{self.path}: write failed: {error}") from error

    def poll(self, now_ns: int) -> None:
        """Flush, force to disk and check the free space when due; call often.

        Args:
            now_ns: monotonic time [ns].

        Raises:
            RecordingError: if the disk is too full or refuses.
        """
        if self._last_flush_ns is None:
            self._last_flush_ns = self._last_sync_ns = now_ns
        if now_ns - self._last_flush_ns < self._config.chunk_period_s * NS_PER_S:
            return
        self._last_flush_ns = now_ns
        try:
            self._storage.flush()
            if now_ns - self._last_sync_ns >= self._config.fsync_period_s * NS_PER_S:
                self._last_sync_ns = now_ns
                self._storage.sync()
        except OSError as error:
            raise RecordingError(f"{self.path}: flush failed: {error}") from error
        self._check_space(self.path)

    def close(self, info: EpisodeInfo) -> Path:
        """Complete the bag, force it to disk, give it its final name and return that.

        Raises:
            RecordingError: if anything fails; the ``.partial`` folder then stays, marked aborted.
        """
        try:
            self._writer.set_custom_data(CUSTOM_DATA_KEY, info.to_json())
            self._writer.close()
            write_episode(self.path, info)
            for file in self.path.iterdir():
                _sync_path(file)
            _sync_path(self.path)
            self.path.rename(self._final)
            _sync_path(self._final.parent)
        except Exception as error:
            self.abort(info.replace(note=f"{info.note} close failed: {error}".strip()))
            raise RecordingError(f"{self.path}: close failed: {error}") from error
        return self._final

    def abort(self, info: EpisodeInfo) -> Path:
        """Stop without completing; leaves the ``.partial`` folder, marked aborted.

        Never raises: it runs when the disk is already in trouble. If even the mark cannot be
        written, ``episode.json`` of the start remains: outcome "recording", never a success.
        """
        with contextlib.suppress(Exception):  # a full disk fails the final flush again
            self._writer.abort()
        with contextlib.suppress(OSError):
            write_episode(self.path, info.replace(outcome=Outcome.ABORTED))
        return self.path

    def discard(self) -> None:
        """Stop and delete what was written."""
        self._writer.abort()
        shutil.rmtree(self.path, ignore_errors=True)

    def _check_space(self, folder: Path) -> None:
        free = self._free(folder)
        if free < self._config.min_free_bytes:
            raise RecordingError(
                f"{folder}: {free / _GIB:.2f} GiB free, recording needs at least "
                f"{self._config.min_free_bytes / _GIB:.2f} GiB"
            )


def _sync_path(path: Path) -> None:
    """Force one file or folder entry to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
