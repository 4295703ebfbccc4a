# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pinocchio as pin
import pytest

from vla_ros.embodiment.urdf_tree import UrdfTree
from vla_ros.errors import ConfigError
from vla_ros.geometry import pose_from_quat
from vla_ros.sim.plant import FR3_JOINTS, fr3_arm


def test_chain_of_transforms_is_the_forward_kinematics_of_pinocchio():
    xml = fr3_arm().urdf_xml
    tree = UrdfTree(xml)
    model = pin.buildModelFromXML(xml)
    data = model.createData()
    random = np.random.default_rng(0)
    for _ in range(20):
        q = random.uniform(-1, 1, model.nq) * np.array([1] * 7 + [0.02] * 2)
        names = list(model.names)[1:]
        positions = dict(zip(names, q, strict=True))
        edges = tree.fixed_transforms() + tree.moving_transforms(positions)
        parents = {e.child: e for e in edges}
        pin.framesForwardKinematics(model, data, q)
        for link in ("fr3_hand_tcp", "fr3_link4", "fr3_leftfinger", "fr3_rightfinger"):
            T = np.eye(4)
            child = link
            while child in parents:
                edge = parents[child]
                T = pose_from_quat(edge.position, edge.quat_xyzw) @ T
                child = edge.parent
            expected = data.oMf[model.getFrameId(link)].homogeneous
            np.testing.assert_allclose(T, expected, atol=1e-9)
    assert set(FR3_JOINTS) <= set(tree.moving_joints)


def test_text_that_is_no_urdf_is_refused():
    with pytest.raises(ConfigError, match="cannot read the URDF"):
        UrdfTree("<robot>")
