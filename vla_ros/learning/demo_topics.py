# SPDX-License-Identifier: Apache-2.0
"""Topics of a recorded demonstration: those of a live run, plus what only a simulation knows."""

from __future__ import annotations

CAMERAS = ("scene_camera", "wrist_camera")
BASE_FRAME = "fr3_link0"

JOINTS = "/joint_states"
CURRENT_POSE, COMMANDED_POSE = "/current_pose", "/commanded_pose"
CURRENT_TWIST, COMMANDED_TWIST = "/current_twist", "/commanded_twist"
GRIPPER = "/gripper/width"  # JointState "measured" and "commanded" [m]
EXECUTED = "/action_chunk"
RIGHT = "/expert/action_chunk"  # what the expert would do, without the noise
GOAL = "/expert/goal"  # where that comes to rest
CUBES, BOWLS = "/ground_truth/cubes", "/ground_truth/bowls"  # PoseArray in the order of colours
TASK, VERDICT = "/task/state", "/judge/verdict"


def image_topic(camera: str) -> str:
    """Return the topic of a camera's compressed images."""
    return f"/{camera}/image_raw/compressed"


TYPES = {
    JOINTS: "sensor_msgs/msg/JointState",
    CURRENT_POSE: "geometry_msgs/msg/PoseStamped",
    COMMANDED_POSE: "geometry_msgs/msg/PoseStamped",
    CURRENT_TWIST: "geometry_msgs/msg/TwistStamped",
    COMMANDED_TWIST: "geometry_msgs/msg/TwistStamped",
    GRIPPER: "sensor_msgs/msg/JointState",
    EXECUTED: "vla_ros_msgs/msg/ActionChunk",
    RIGHT: "vla_ros_msgs/msg/ActionChunk",
    GOAL: "geometry_msgs/msg/PoseStamped",
    CUBES: "geometry_msgs/msg/PoseArray",
    BOWLS: "geometry_msgs/msg/PoseArray",
    TASK: "vla_ros_msgs/msg/TaskState",
    VERDICT: "vla_ros_msgs/msg/Verdict",
    **{image_topic(camera): "sensor_msgs/msg/CompressedImage" for camera in CAMERAS},
}
