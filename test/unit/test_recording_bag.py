# SPDX-License-Identifier: Apache-2.0
"""Bags: two independent readers, crashes, full disks, recovery."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import yaml
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from recording_samples import (
    INFO,
    NO_FLOOR,
    START_NS,
    open_writer,
    string_cdr,
    write_sample,
)
from rosbags.interfaces import QosDurability
from rosbags.rosbag2 import Reader

from vla_ros.clock import NS_PER_MS, NS_PER_S
from vla_ros.errors import RecordingError
from vla_ros.recording.bag_writer import BagConfig, BagWriter
from vla_ros.recording.episode import CUSTOM_DATA_KEY, EpisodeInfo, Outcome, read_episode
from vla_ros.recording.message_types import MessageTypes
from vla_ros.recording.reader import EpisodeBag, find_episodes, load_episode
from vla_ros.recording.recovery import find_partials, recover_partial


@pytest.fixture(scope="module")
def types() -> MessageTypes:
    return MessageTypes()


def test_every_message_of_every_topic_is_read_by_both_readers(tmp_path: Path) -> None:
    bag = write_sample(tmp_path, 1, seconds=2.0)
    with Reader(bag) as reader:
        ours = [(c.topic, t, bytes(d)) for c, t, d in reader.messages()]
        durability = {c.topic: c.ext.offered_qos_profiles[0].durability for c in reader.connections}
    with next(bag.glob("*.mcap")).open("rb") as file:
        other_reader = make_reader(file, decoder_factories=[DecoderFactory()], validate_crcs=True)
        theirs = [(c.topic, m.log_time, m.data) for _, c, m in other_reader.iter_messages()]
        decoded = list(other_reader.iter_decoded_messages())
    assert sorted(ours) == sorted(theirs)
    assert len(decoded) == len(ours) > 800
    info = read_episode(bag)
    per_topic = {topic: sum(t == topic for t, _, _ in ours) for topic in durability}
    assert per_topic == {topic: account.written for topic, account in info.topics.items()}
    assert durability["/tf_static"] == QosDurability.TRANSIENT_LOCAL
    assert durability["/joint_states"] == QosDurability.VOLATILE


def test_decoded_values_agree_between_readers(tmp_path: Path) -> None:
    bag = write_sample(tmp_path, 1, seconds=1.0)
    series = load_episode(bag)
    with next(bag.glob("*.mcap")).open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        efforts = [
            m.effort for _, _, _, m in reader.iter_decoded_messages(topics=["/joint_states"])
        ]
        ages = [
            m.latent_age_ms for _, _, _, m in reader.iter_decoded_messages(topics=["/action_chunk"])
        ]
    np.testing.assert_array_equal(series.joints.tau, np.array(efforts))
    np.testing.assert_array_equal(series.chunks.column("latent_age_ms"), np.array(ages))


def test_series_have_shapes_and_times(tmp_path: Path) -> None:
    series = load_episode(write_sample(tmp_path, 2, seconds=2.0))
    assert series.joints.q.shape == (200, 7)
    assert series.joints.names[0] == "fr3_joint1"
    np.testing.assert_allclose(series.joints.t_s, np.arange(200) / 100, atol=1e-6)
    assert series.commanded.positions.shape == (200, 3)
    assert series.commanded.quats_xyzw.shape == (200, 4)
    assert series.chunks.column("phase")[0] == "reach"
    assert series.duration_s == pytest.approx(2.0)
    images = list(EpisodeBag(series.path).images("wrist_camera"))
    assert len(images) == 20
    assert images[0][1][:2] == b"\xff\xd8"


def test_reader_of_empty_topics_gives_empty_series(tmp_path: Path, types: MessageTypes) -> None:
    writer = open_writer(tmp_path, types)
    writer.write("/text", START_NS, string_cdr(types, "x"))
    episode = load_episode(writer.close(INFO.replace(outcome=Outcome.FAILURE)))
    assert episode.joints.q.shape == (0, 0)
    assert len(episode.chunks) == 0
    assert episode.chunks.column("seam_m").size == 0


def test_metadata_is_rosbag2_version_9_with_hashes_and_custom_data(tmp_path: Path) -> None:
    bag = write_sample(tmp_path, 1, seconds=0.5)
    info = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert (info["version"], info["storage_identifier"]) == (9, "mcap")
    assert info["relative_file_paths"] == ["episode_1_0.mcap"]
    hashes = [
        t["topic_metadata"]["type_description_hash"] for t in info["topics_with_message_count"]
    ]
    assert all(h.startswith("RIHS01_") for h in hashes)
    assert EpisodeInfo.from_json(info["custom_data"][CUSTOM_DATA_KEY]) == read_episode(bag)


def test_close_renames_partial_and_keeps_no_temporary_files(
    tmp_path: Path, types: MessageTypes
) -> None:
    writer = open_writer(tmp_path, types)
    assert writer.path.name == "episode_7.partial"
    assert read_episode(writer.path).outcome is Outcome.RECORDING
    path = writer.close(INFO.replace(outcome=Outcome.SUCCESS, end_ns=START_NS))
    assert sorted(p.name for p in path.iterdir()) == [
        "episode.json",
        "episode_7_0.mcap",
        "metadata.yaml",
    ]
    assert not find_partials(tmp_path)
    assert find_episodes(tmp_path) == [path]


def test_existing_bag_is_not_overwritten(tmp_path: Path, types: MessageTypes) -> None:
    open_writer(tmp_path, types).close(INFO)
    with pytest.raises(RecordingError, match="exists already"):
        open_writer(tmp_path, types)


def test_unknown_type_is_refused_with_the_folders_tried(tmp_path: Path) -> None:
    types = MessageTypes(folders=[tmp_path])
    with pytest.raises(RecordingError, match=r"foo_msgs/msg/Bar.*looked in"):
        types.ensure("foo_msgs/msg/Bar")


def test_start_is_refused_below_the_free_space_floor(tmp_path: Path, types: MessageTypes) -> None:
    with pytest.raises(RecordingError, match=r"0\.50 GiB free.*1\.00 GiB"):
        BagWriter(tmp_path, "e", INFO, types, free=lambda _: 1 << 29)


def test_running_out_of_space_raises_and_leaves_an_aborted_partial(
    tmp_path: Path, types: MessageTypes
) -> None:
    space = iter([2 << 30, 1 << 20])
    writer = BagWriter(tmp_path, "e", INFO, types, free=lambda _: next(space))
    writer.poll(0)
    with pytest.raises(RecordingError, match="free"):
        writer.poll(NS_PER_S)
    assert read_episode(writer.abort(INFO)).outcome is Outcome.ABORTED
    assert not (tmp_path / "e").exists()


def write_until_it_fails(writer: BagWriter, data: bytes) -> None:
    for i in range(100):
        writer.write("/text", START_NS + i, data)
        writer.poll(i * NS_PER_S)
    writer.close(INFO.replace(outcome=Outcome.SUCCESS))


def test_write_error_is_never_a_success(tmp_path: Path, types: MessageTypes) -> None:
    writer = open_writer(tmp_path, types)
    data = string_cdr(types, "x" * 100_000)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3_000_000, hard))
    try:
        with pytest.raises(RecordingError, match="failed"):
            write_until_it_fails(writer, data)
        writer.abort(INFO)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)
    assert read_episode(writer.path).outcome is Outcome.ABORTED
    assert not (tmp_path / "episode_7").exists()


def test_poll_hands_messages_over_within_the_chunk_period(
    tmp_path: Path, types: MessageTypes
) -> None:
    writer = open_writer(tmp_path, types)
    file = next(writer.path.glob("*.mcap"))
    writer.poll(0)
    writer.write("/text", START_NS, string_cdr(types, "kept"))
    writer.poll(499 * NS_PER_MS)
    assert b"kept" not in file.read_bytes()
    writer.poll(500 * NS_PER_MS)
    assert b"kept" in file.read_bytes()
    writer.discard()
    assert not writer.path.exists()


def test_killed_writer_loses_at_most_one_chunk_period(tmp_path: Path, types: MessageTypes) -> None:
    script = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        sys.path[:0] = sys.argv[2:]
        from recording_samples import START_NS, open_writer, string_cdr
        from vla_ros.recording.message_types import MessageTypes
        types = MessageTypes()
        writer = open_writer(Path(sys.argv[1]), types)
        for i in range(1000):  # 2 ms apart: the last poll that flushes is at 1.5 s
            writer.write("/text", START_NS + i, string_cdr(types, f"message {i}"))
            writer.poll(i * 2_000_000)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    root = Path(__file__).resolve().parents[2]
    arguments = [sys.executable, "-c", script, str(tmp_path), str(root), str(root / "test/unit")]
    done = subprocess.run(arguments, check=False, timeout=60, env=dict(os.environ))
    assert done.returncode == -signal.SIGKILL
    (partial,) = find_partials(tmp_path)
    report = recover_partial(partial, types, NO_FLOOR)
    assert 750 <= report.messages < 1000
    assert report.truncated
    with Reader(report.path) as reader:
        texts = [types.store.deserialize_cdr(d, c.msgtype).data for c, _, d in reader.messages()]
    assert texts == [f"message {i}" for i in range(report.messages)]
    info = read_episode(report.path)
    assert info.outcome is Outcome.RECOVERED
    assert info.instruction == INFO.instruction
    assert info.topics["/text"].written == report.messages


def make_partial(folder: Path, types: MessageTypes) -> tuple[Path, bytes]:
    """Leave a partial of three chunks and return it with the bytes of its file."""
    writer = open_writer(folder, types)
    writer.poll(0)
    for i in range(3):
        writer.write("/text", START_NS + i, string_cdr(types, f"message {i}"))
        writer.poll((i + 1) * NS_PER_S)
    writer.abort(INFO)
    return writer.path, next(writer.path.glob("*.mcap")).read_bytes()


def test_recovery_of_any_truncation_gives_a_prefix_or_says_why(
    tmp_path: Path, types: MessageTypes
) -> None:
    partial, content = make_partial(tmp_path, types)
    file = next(partial.glob("*.mcap"))
    saved = []
    for length in range(0, len(content) + 1, 37):
        file.write_bytes(content[:length])
        try:
            report = recover_partial(partial, types, NO_FLOOR)
        except RecordingError:
            saved.append(0)
            continue
        saved.append(report.messages)
        for item in report.path.iterdir():
            item.unlink()
        report.path.rmdir()
    assert saved[0] == 0
    assert saved[-1] >= 2
    assert saved == sorted(saved)


def test_recovery_drops_a_chunk_whose_bytes_changed(tmp_path: Path, types: MessageTypes) -> None:
    partial, content = make_partial(tmp_path, types)
    file = next(partial.glob("*.mcap"))
    file.write_bytes(content.replace(b"message 1", b"massage 1"))
    report = recover_partial(partial, types, NO_FLOOR)
    assert (report.messages, report.bad_chunks) == (2, 1)


@pytest.mark.parametrize(
    "values", [{"chunk_period_s": 0.0}, {"fsync_period_s": 0.1}, {"min_free_bytes": -1}]
)
def test_config_out_of_range_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(values))):
        BagConfig(**values)  # type: ignore[arg-type]
