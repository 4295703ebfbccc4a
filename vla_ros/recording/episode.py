# SPDX-License-Identifier: Apache-2.0
"""What is known about one recorded episode: ``episode.json``, repeated in the bag's metadata."""

from __future__ import annotations

import dataclasses
import enum
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vla_ros.errors import RecordingError
from vla_ros.recording.counts import TopicAccount

EPISODE_FILE = "episode.json"
CUSTOM_DATA_KEY = "vla_ros.episode"
SCHEMA_VERSION = 1


class Outcome(enum.StrEnum):
    """How a recording ended. Only SUCCESS and FAILURE are complete recordings."""

    RECORDING = "recording"  # not ended: the process died if nobody is writing
    SUCCESS = "success"
    FAILURE = "failure"
    ABORTED = "aborted"  # could not be written to the end
    RECOVERED = "recovered"  # rewritten from what a crash left


@dataclass(frozen=True, kw_only=True)
class EpisodeInfo:
    """One episode. Instants are system time [ns] since 1970, as everywhere in a bag.

    Attributes:
        episode_id: number given by the task; names the folder.
        instruction: what the robot was asked to do.
        seed: seed of the scene, None on a real robot.
        start_ns, end_ns: first and last instant of the recording; ``end_ns`` None while it runs.
        versions: name to version of what produced the data.
        topics: account per fully qualified topic.
        types: message type per topic.
        silent_nodes: nodes that did not say how many messages they had published.
        unrecorded: topics that were seen and not recorded, with the reason.
        queue_dropped: messages that arrived and found the recorder's queue full; counted as lost.
        note: free text.
    """

    episode_id: int
    instruction: str
    outcome: Outcome = Outcome.RECORDING
    seed: int | None = None
    start_ns: int = 0
    end_ns: int | None = None
    versions: Mapping[str, str] = field(default_factory=dict)
    topics: Mapping[str, TopicAccount] = field(default_factory=dict)
    types: Mapping[str, str] = field(default_factory=dict)
    silent_nodes: tuple[str, ...] = ()
    unrecorded: Mapping[str, str] = field(default_factory=dict)
    queue_dropped: int = 0
    note: str = ""

    @property
    def published(self) -> int:
        """Messages published in the window, all counted topics."""
        return sum(a.published for a in self.topics.values())

    @property
    def recorded(self) -> int:
        """Messages of the window that are in the bag."""
        return sum(a.recorded for a in self.topics.values())

    @property
    def lost(self) -> int:
        """Messages of the window that are not in the bag."""
        return sum(a.lost for a in self.topics.values())

    def replace(self, **changes: object) -> EpisodeInfo:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)  # type: ignore[arg-type]

    def to_json(self) -> str:
        """Return the JSON text, totals included."""
        values = dataclasses.asdict(self)
        values["schema_version"] = SCHEMA_VERSION
        values["totals"] = {
            "published": self.published,
            "recorded": self.recorded,
            "lost": self.lost,
        }
        for topic, account in self.topics.items():
            values["topics"][topic]["written"] = account.written
        return json.dumps(values, indent=2, sort_keys=False)

    @classmethod
    def from_json(cls, text: str) -> EpisodeInfo:
        """Read ``to_json`` text.

        Raises:
            RecordingError: if the text is not an episode of a schema this code reads.
        """
        try:
            values = json.loads(text)
            if values.pop("schema_version") != SCHEMA_VERSION:
                raise RecordingError("episode.json has a schema version this code does not read")
            values.pop("totals")
            values["outcome"] = Outcome(values["outcome"])
            values["silent_nodes"] = tuple(values["silent_nodes"])
            values["topics"] = {
                topic: TopicAccount(**{k: v for k, v in row.items() if k != "written"})
                for topic, row in values["topics"].items()
            }
            return cls(**values)
        except (KeyError, TypeError, ValueError) as error:
            raise RecordingError(f"not an episode description: {error}") from error


def write_episode(folder: Path, info: EpisodeInfo) -> None:
    """Write ``episode.json`` atomically and durably.

    Raises:
        OSError: if the file system refuses.
    """
    temporary = folder / f"{EPISODE_FILE}.tmp"
    with temporary.open("w", encoding="utf8") as file:
        file.write(info.to_json())
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / EPISODE_FILE)


def read_episode(folder: Path) -> EpisodeInfo:
    """Read ``episode.json`` of a bag folder.

    Raises:
        RecordingError: if it is missing or unreadable.
    """
    try:
        return EpisodeInfo.from_json((folder / EPISODE_FILE).read_text("utf8"))
    except OSError as error:
        raise RecordingError(f"{folder}: no readable {EPISODE_FILE}: {error}") from error
