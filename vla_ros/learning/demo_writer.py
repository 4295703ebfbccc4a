# SPDX-License-Identifier: Apache-2.0
"""Writes one demonstration as a bag. Its times are virtual: seconds since the episode began."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from rosbags.interfaces import (
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)

from vla_ros import __version__
from vla_ros.clock import NS_PER_S
from vla_ros.errors import RecordingError
from vla_ros.geometry import matrix_to_quat_xyzw
from vla_ros.learning import demo_topics as topics
from vla_ros.recording.bag_writer import BagWriter
from vla_ros.recording.counts import TopicAccount
from vla_ros.recording.episode import EpisodeInfo, Outcome
from vla_ros.recording.message_factory import MessageFactory
from vla_ros.recording.message_types import MessageTypes
from vla_ros.types import ActionChunk, CameraFrame, RobotState

if TYPE_CHECKING:
    from vla_ros.sim.demonstration import DemonstrationStep
    from vla_ros.sim.judge import JudgeVerdict

START_NS = NS_PER_S  # when an episode begins; the same for all, so a seed always gives one bag
_PNG = [int(cv2.IMWRITE_PNG_COMPRESSION), 1]  # lossless: a JPEG smears the colours of a small cube
_FOREVER = QosTime(9223372036, 854775807)
_QOS = Qos(
    QosHistory.KEEP_LAST,
    10,
    QosReliability.RELIABLE,
    QosDurability.VOLATILE,
    _FOREVER,
    _FOREVER,
    QosLiveliness.AUTOMATIC,
    _FOREVER,
    False,
)


class DemonstrationWriter:
    """Keeps a demonstration in ``folder / name``; complete after ``close``.

    Raises:
        RecordingError: if the bag exists or the disk refuses.
    """

    def __init__(
        self, folder: Path, name: str, episode_id: int, seed: int, instruction: str
    ) -> None:
        self._info = EpisodeInfo(
            episode_id=episode_id,
            instruction=instruction,
            seed=seed,
            start_ns=START_NS,
            versions={"vla_ros": __version__},
            note="virtual time; demonstrated by the scripted expert with noise",
        )
        self._messages = MessageFactory(MessageTypes())
        self._bag = BagWriter(folder, name, self._info, self._messages.types)
        self._counts: Counter[str] = Counter()
        self._end_ns = START_NS
        self._put(
            topics.TASK,
            0,
            status=1,
            episode_id=episode_id,
            instruction_id=1,
            instruction=instruction,
        )

    def add_frames(self, t_ns: int, frames: Sequence[CameraFrame], verdict: JudgeVerdict) -> None:
        """Write the images (PNG) and what the judge says."""
        for frame in frames:
            done, encoded = cv2.imencode(".png", frame.rgb[:, :, ::-1], _PNG)
            if not done:
                raise RecordingError(f"cannot encode an image of {frame.name}")
            self._put(
                topics.image_topic(frame.name),
                t_ns,
                frame_id=f"{frame.name}_optical_frame",
                format="rgb8; png compressed bgr8",
                data=encoded.reshape(-1),
            )
        self._put(
            topics.VERDICT,
            t_ns,
            success=verdict.success,
            success_since_s=verdict.success_since_s,
            reason=verdict.reason,
        )

    def add_step(self, step: DemonstrationStep) -> None:
        """Write the robot's state, what the expert would do, what was done, and the truth."""
        t_ns, m = step.t_ns, self._messages
        self._put_state(t_ns, step.state)
        for topic, chunk in ((topics.RIGHT, step.right), (topics.EXECUTED, step.done)):
            self._put_chunk(topic, t_ns, chunk)
        goal = m.pose(step.goal.position, matrix_to_quat_xyzw(step.goal.R))
        self._put(topics.GOAL, t_ns, pose=goal)
        cubes = [
            m.pose(c[:3], (0, 0, math.sin(c[3] / 2), math.cos(c[3] / 2)))
            for c in step.objects.cubes
        ]
        self._put(topics.CUBES, t_ns, poses=cubes)
        bowls = [m.pose((*b, 0.0), (0.0, 0.0, 0.0, 1.0)) for b in step.objects.bowls]
        self._put(topics.BOWLS, t_ns, poses=bowls)

    def close(self, success: bool) -> Path:
        """Complete the bag and return its folder.

        Raises:
            RecordingError: if the disk refuses.
        """
        outcome = Outcome.SUCCESS if success else Outcome.FAILURE
        counts = {topic: TopicAccount(published=n, recorded=n) for topic, n in self._counts.items()}
        info = self._info.replace(
            outcome=outcome,
            end_ns=self._end_ns,
            topics=counts,
            types={topic: topics.TYPES[topic] for topic in counts},
        )
        return self._bag.close(info)

    def discard(self) -> None:
        """Delete what was written."""
        self._bag.discard()

    def _put_state(self, t_ns: int, state: RobotState) -> None:
        m = self._messages
        names = [f"fr3_joint{i}" for i in range(1, len(state.q) + 1)]
        self._put(
            topics.JOINTS, t_ns, name=names, position=state.q, velocity=state.dq, effort=state.tau
        )
        for topic, T in (
            (topics.CURRENT_POSE, state.T_base_ee),
            (topics.COMMANDED_POSE, state.T_base_ref),
        ):
            self._put(topic, t_ns, pose=m.pose(T[:3, 3], matrix_to_quat_xyzw(T[:3, :3])))
        self._put(topics.CURRENT_TWIST, t_ns, twist=m.twist(state.twist_base))
        self._put(topics.COMMANDED_TWIST, t_ns, twist=m.twist(state.twist_ref_base))
        widths = np.array([state.gripper_width_m, state.gripper_target_m])
        self._put(topics.GRIPPER, t_ns, name=["measured", "commanded"], position=widths)

    def _put_chunk(self, topic: str, t_ns: int, chunk: ActionChunk) -> None:
        m = self._messages
        rows = zip(chunk.positions, chunk.quats_xyzw, strict=True)
        stamp = m.make(
            "vla_ros_msgs/msg/LatencyStamp",
            kind=2,
            clock_domain=3,
            target0_ns=START_NS + t_ns,
            dt_ns=chunk.dt_ns,
            horizon=chunk.horizon,
        )
        self._put(
            topic,
            t_ns,
            stamp=stamp,
            phase=chunk.phase,
            done=chunk.done,
            poses=[m.pose(p, q) for p, q in rows],
            gripper_width_m=np.asarray(chunk.gripper_width_m, dtype=np.float64),
        )

    def _put(self, topic: str, t_ns: int, frame_id: str = topics.BASE_FRAME, **values: Any) -> None:
        msgtype, at_ns = topics.TYPES[topic], START_NS + t_ns
        message = self._messages.make(
            msgtype, header=self._messages.header(at_ns, frame_id), **values
        )
        self._bag.add_topic(topic, msgtype, [_QOS])
        self._bag.write(topic, at_ns, self._messages.serialise(message, msgtype))
        self._counts[topic] += 1
        self._end_ns = max(self._end_ns, at_ns)
