# SPDX-License-Identifier: Apache-2.0
"""Builds ROS messages without ROS: the types of a bag, with zeros where nothing is said."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from vla_ros.recording.message_types import MessageTypes

_BASE, _NAME, _ARRAY = 1, 2, 3  # kinds of a field in rosbags' type store


class MessageFactory:
    """Makes and serialises messages.

    Args:
        types: definitions of the message types.
    """

    def __init__(self, types: MessageTypes) -> None:
        self.types = types

    def make(self, msgtype: str, **values: Any) -> Any:
        """Return a message; what is not named is zero, empty or False.

        Raises:
            RecordingError: if the type has no definition.
        """
        self.types.ensure(msgtype)
        fields = self.types.store.fielddefs[msgtype][1]
        given = {
            name: values[name] if name in values else self._zero(kind) for name, kind in fields
        }
        return self.types.store.types[msgtype](**given)

    def serialise(self, message: Any, msgtype: str) -> bytes:
        """Return the CDR bytes of a message."""
        return bytes(self.types.store.serialize_cdr(message, msgtype))

    def header(self, stamp_ns: int, frame_id: str) -> Any:
        """Return a header with a time [ns] since 1970."""
        seconds, nanoseconds = divmod(stamp_ns, 10**9)
        stamp = self.make("builtin_interfaces/msg/Time", sec=seconds, nanosec=nanoseconds)
        return self.make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)

    def pose(self, position: Iterable[float], quat_xyzw: Iterable[float]) -> Any:
        """Return a pose of position (3,) [m] and quaternion (4,) xyzw."""
        x, y, z = (float(v) for v in position)
        qx, qy, qz, qw = (float(v) for v in quat_xyzw)
        return self.make(
            "geometry_msgs/msg/Pose",
            position=self.make("geometry_msgs/msg/Point", x=x, y=y, z=z),
            orientation=self.make("geometry_msgs/msg/Quaternion", x=qx, y=qy, z=qz, w=qw),
        )

    def twist(self, values: Iterable[float]) -> Any:
        """Return a twist of (6,), linear first [m/s, rad/s]."""
        x, y, z, rx, ry, rz = (float(v) for v in values)
        return self.make(
            "geometry_msgs/msg/Twist",
            linear=self.make("geometry_msgs/msg/Vector3", x=x, y=y, z=z),
            angular=self.make("geometry_msgs/msg/Vector3", x=rx, y=ry, z=rz),
        )

    def _zero(self, description: Any) -> Any:
        kind, detail = int(description[0]), description[1]
        if kind == _BASE:
            return {"string": "", "bool": False}.get(detail[0], 0)
        if kind == _NAME:
            return self.make(detail)
        element, length = detail
        if int(element[0]) == _BASE and element[1][0] != "string":
            return np.zeros(length if kind == _ARRAY else 0, dtype=element[1][0])
        return []
