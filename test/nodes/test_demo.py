# SPDX-License-Identifier: Apache-2.0
"""``vla-ros demo`` as a person runs it: results on disk, exit status, nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from mcap_ros2.reader import read_ros2_messages
from rosbags.rosbag2 import Reader

pytest.importorskip("rclpy")
pytest.importorskip("vla_ros_msgs")
pytest.importorskip("mujoco")

pytestmark = [pytest.mark.ros, pytest.mark.sim]

SHM = Path("/dev/shm")
CLASSICAL = ("--policy", "classical")  # always finishes, and needs no weights


def demo_command(out: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "vla_ros.cli", "demo", "--headless", "--out", str(out), *options]


def children_of(pid: int) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == pid:
            found.append(int(path.parent.name))
    return found


def assert_independent_readers_agree(bag: Path) -> None:
    """Two readers that know nothing of us decode every message that the account lists."""
    (mcap,) = bag.glob("*.mcap")
    decoded = Counter(m.channel.topic for m in read_ros2_messages(mcap) if m.ros_msg is not None)
    with Reader(bag) as reader:
        listed = Counter(connection.topic for connection, _, _ in reader.messages())
    account = json.loads((bag / "episode.json").read_text(encoding="utf-8"))["topics"]
    assert decoded == listed
    assert decoded == {topic: a["written"] for topic, a in account.items() if a["written"]}
    for topic, a in account.items():
        assert a["published"] == a["recorded"] + a["lost"], topic
    assert len(decoded) > 20


def test_demo_leaves_results_and_no_shared_memory(tmp_path: Path) -> None:
    before = {path.name for path in SHM.glob("vla_ros.d*.fr3.*")}
    done = subprocess.run(
        demo_command(tmp_path, *CLASSICAL, "--episodes=1", "--no-video", "--slow-latency-ms=100"),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "latest" / "summary.json").read_text(encoding="utf-8"))
    assert (summary["episodes"], summary["successes"]) == (1, 1)
    recording = summary["recording"]
    assert recording["published"] == recording["recorded"] + recording["lost"] > 0
    assert summary["age_error_ms_max"] < 2.0
    assert summary["slow"]["latency_ms_p50"] >= 100.0
    assert (tmp_path / "latest" / "report.html").stat().st_size > 10_000
    assert_independent_readers_agree(tmp_path / "latest" / "episode_1")
    assert {path.name for path in SHM.glob("vla_ros.d*.fr3.*")} <= before


@pytest.mark.weights
def test_demo_runs_the_learned_policy_by_default(tmp_path: Path) -> None:
    """Both halves run live; whether it succeeds is measured over many episodes, not here."""
    done = subprocess.run(
        demo_command(tmp_path, "--episodes=1", "--no-video", "--threshold=0"),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "latest" / "summary.json").read_text(encoding="utf-8"))
    assert summary["policy"] == "pick-place"
    assert summary["faults"] == []
    assert summary["age_error_ms_max"] < 2.0
    assert summary["latent_age_ms"]["p50"] > 300.0
    assert summary["fast"]["chunks_hz"] > 10.0


def test_interrupted_demo_ends_its_processes(tmp_path: Path) -> None:
    process = subprocess.Popen(
        demo_command(tmp_path, *CLASSICAL, "--no-record", "--episodes", "50"),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    deadline = time.monotonic() + 40.0
    for line in process.stdout:
        if line.startswith("episode 1/"):
            break
        assert time.monotonic() < deadline, "waited 40 s for the first episode, in vain"
    children = children_of(process.pid)
    assert len(children) >= 6
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=30)
    assert process.returncode != 0
    assert "Traceback" not in output
    assert not any(Path(f"/proc/{pid}").exists() for pid in children)
