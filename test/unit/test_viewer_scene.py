# SPDX-License-Identifier: Apache-2.0
"""The live view: kinematics of what is drawn, what it listens on, that text is escaped."""

from __future__ import annotations

import contextlib
import math
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import viser
from websockets.sync.client import connect

from vla_ros.errors import ConfigError
from vla_ros.geometry import pose_from_quat, rotation_about_z
from vla_ros.viewer.robot_model import RobotModel, load_fr3, load_urdf, rotate
from vla_ros.viewer.scene import LiveView, ViewerConfig, ViewNumbers, render_panel, to_wxyz

HOME = dict(
    zip(
        (f"fr3_joint{i}" for i in range(1, 8)),
        (0, -math.pi / 4, 0, -3 * math.pi / 4, 0, math.pi / 2, math.pi / 4),
        strict=True,
    )
)
ONE_JOINT = """<robot name="r"><link name="a"/><link name="b"/>
<joint name="j" type="revolute"><parent link="a"/><child link="b"/>
<origin xyz="1 0 0" rpy="0 0 1.5707963267948966"/><axis xyz="0 0 1"/></joint></robot>"""


@pytest.fixture(scope="module")
def fr3() -> RobotModel:
    return load_fr3()


def link_pose(model: RobotModel, name: str, joints: dict[str, float]) -> np.ndarray:
    by_name = {link.name: link for link in model.links}
    link = by_name[name]
    T_base_link = np.eye(4)
    while True:
        T_base_link = pose_from_quat(*link.pose_at(joints.get(link.joint or "", 0.0))) @ T_base_link
        if link.parent is None:
            return T_base_link
        link = by_name[link.parent]


def test_fr3_at_home_points_the_tcp_down(fr3: RobotModel) -> None:
    T_base_tcp = link_pose(fr3, "fr3_hand_tcp", HOME)
    np.testing.assert_allclose(T_base_tcp[:3, 3], (0.3069, 0.0, 0.4866), atol=1e-3)
    np.testing.assert_allclose(T_base_tcp[:3, :3], np.diag([1.0, -1.0, -1.0]), atol=1e-3)


def test_fr3_fingers_open_along_opposite_directions(fr3: RobotModel) -> None:
    joints = HOME | {"fr3_finger_joint1": 0.04, "fr3_finger_joint2": 0.04}
    left = link_pose(fr3, "fr3_leftfinger", joints)[:3, 3]
    right = link_pose(fr3, "fr3_rightfinger", joints)[:3, 3]
    assert np.linalg.norm(left - right) == pytest.approx(0.08)


def test_fr3_has_a_mesh_for_every_visible_link(fr3: RobotModel) -> None:
    drawn = {link.name for link in fr3.links if link.meshes}
    assert drawn >= {f"fr3_link{i}" for i in range(8)} | {"fr3_hand", "fr3_leftfinger"}
    assert all(mesh.path.is_file() for link in fr3.links for mesh in link.meshes)


def test_parents_come_before_children(fr3: RobotModel) -> None:
    seen: set[str] = set()
    for link in fr3.links:
        assert link.parent is None or link.parent in seen
        seen.add(link.name)


def test_joint_turns_about_its_axis_in_the_joint_frame(tmp_path: Path) -> None:
    path = tmp_path / "r.urdf"
    path.write_text(ONE_JOINT)
    model = load_urdf(path)
    position, quat = model.links[1].pose_at(0.3)
    expected = rotation_about_z(math.pi / 2 + 0.3)
    np.testing.assert_allclose(pose_from_quat(position, quat)[:3, :3], expected, atol=1e-12)
    np.testing.assert_allclose(rotate(quat, np.array([1.0, 0, 0])), expected[:, 0], atol=1e-12)
    assert model.scene_path(model.links[1]) == "/robot/a/b"


def test_urdf_without_connection_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.urdf"
    path.write_text(ONE_JOINT.replace('<link name="a"/>', ""))
    with pytest.raises(ConfigError, match="no known parent"):
        load_urdf(path)


def test_panel_escapes_text_and_says_so_for_unknown_numbers() -> None:
    page = render_panel(ViewNumbers(instruction="<b>x</b>", mode="TRACK", success=True))
    assert "<b>x" not in page
    assert "&lt;b&gt;" in page
    assert "n/a" in page
    assert "success" in page


def test_wxyz_order() -> None:
    np.testing.assert_array_equal(to_wxyz(np.array([1.0, 2.0, 3.0, 4.0])), [4.0, 1.0, 2.0, 3.0])


def test_config_out_of_range_is_refused() -> None:
    with pytest.raises(ConfigError, match="port"):
        ViewerConfig(port=70_000)


@pytest.fixture
def view(fr3: RobotModel) -> Iterator[LiveView]:
    shown = LiveView(fr3, ViewerConfig(port=0))
    yield shown
    shown.close()


def test_view_listens_on_the_loopback_address_only(view: LiveView) -> None:
    port = int(view.url.rsplit(":", 1)[1])
    assert view.url.startswith("http://127.0.0.1:")
    assert port > 0
    with socket.create_connection(("127.0.0.1", port), timeout=5):
        pass
    listening = {
        row.split()[1]
        for file in ("/proc/net/tcp", "/proc/net/tcp6")
        for row in Path(file).read_text().splitlines()[1:]
        if row.split()[3] == "0A" and row.split()[1].endswith(f":{port:04X}")
    }
    assert listening == {f"0100007F:{port:04X}"}


def test_second_view_takes_another_port(view: LiveView, fr3: RobotModel) -> None:
    port = int(view.url.rsplit(":", 1)[1])
    other = LiveView(fr3, ViewerConfig(port=port))
    try:
        assert other.url != view.url
    finally:
        other.close()


def test_updates_without_viewers_and_with_unknown_names_do_not_fail(view: LiveView) -> None:
    assert not view.has_viewers()
    view.add_box("cube", 0.04, (255, 0, 0))
    view.add_bowl("bowl", 0.068, 0.072, 0.045, 0.004, (0, 255, 255))
    here = (np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))
    view.update(HOME | {"other": 1.0}, {"cube": here, "bowl": here, "nothing": here})
    view.set_image("scene_camera", np.zeros((6, 8, 3), np.uint8))
    view.set_image("other_camera", np.zeros((6, 8, 3), np.uint8))
    view.set_numbers(ViewNumbers(latent_age_ms=math.nan), 1.0)


def received_within(connection: Any, seconds: float) -> int:
    total = 0
    with contextlib.suppress(TimeoutError):
        while True:
            total += len(connection.recv(timeout=seconds))
    return total


def test_two_viewers_both_see_the_scene_and_updates(view: LiveView) -> None:
    address = view.url.replace("http", "ws")
    options = {"subprotocols": [f"viser-v{viser.__version__}"], "max_size": None}
    with connect(address, **options) as one, connect(address, **options) as two:
        assert min(received_within(one, 1.0), received_within(two, 1.0)) > 50_000  # meshes
        view.update(HOME)
        view.set_numbers(ViewNumbers(instruction="both"), 1.0)
        assert min(received_within(one, 1.0), received_within(two, 1.0)) > 100
