# SPDX-License-Identifier: Apache-2.0
"""The external wrench that the control host publishes, against forces put on the simulated arm."""

from __future__ import annotations

from collections.abc import Iterator

import mujoco
import numpy as np
import pytest
from host_rig import HostRig

from vla_ros.sim.scene import SceneConfig, build_scene, describe_scene, save_model
from vla_ros.sim.tasks import apply_layout, sample_layout
from vla_ros.types import ControlMode

pytestmark = pytest.mark.sim

BODY = "hand"
FORCE_N = 10.0
TORQUE_NM = 1.0


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    """Scene without joint friction: what is felt is the force alone."""
    model = build_scene(SceneConfig(friction_scale=0.0))
    # A force that is not finite must leave NaN in the measurement, not a scene that begins anew.
    model.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_AUTORESET
    path = tmp_path_factory.mktemp("scene") / "scene.mjb"
    save_model(model, path)
    return path, model, describe_scene(model)


@pytest.fixture
def rig(scene) -> Iterator[HostRig]:
    path, _, info = scene
    rig = HostRig(path)
    rig.plant.request_reset(list(apply_layout(info, sample_layout(1))))
    rig.run(1.0)
    yield rig
    rig.close()


def estimates(states: list[dict]) -> np.ndarray:
    return np.array([s["wrench_external"] for s in states])


def at_rest(states: list[dict]) -> np.ndarray:
    """Return what is felt without any force: masses of the scene and of the URDF differ a little.

    In the layout of these tests that is 0.46 N downwards.
    """
    rest = estimates(states)[-1]
    assert np.abs(rest[:3]).max() < 0.6
    assert np.abs(rest[3:]).max() < 0.1
    return rest


def lever(rig: HostRig, model) -> np.ndarray:
    """From the end effector to where the force acts, base axes [m]."""
    data = mujoco.MjData(model)
    data.qpos[:] = rig.plant.qpos()
    mujoco.mj_kinematics(model, data)
    mujoco.mj_comPos(model, data)
    base = data.body("base")
    centre = base.xmat.reshape(3, 3).T @ (data.body(BODY).xipos - base.xpos)
    return centre - np.array(rig.host.state()["position"])


@pytest.mark.parametrize("axis", range(6))
@pytest.mark.parametrize("sign", [1, -1])
def test_known_force_is_felt_and_nothing_after_it_is_gone(rig, scene, axis, sign) -> None:
    rest = at_rest(rig.run(0.1))
    pushed = np.zeros(6)
    pushed[axis] = sign * (FORCE_N if axis < 3 else TORQUE_NM)
    rig.plant.set_external_force(BODY, list(pushed))
    rig.run(2.0)
    wrenches = estimates(rig.run(0.2))
    pushed[3:] += np.cross(lever(rig, scene[1]), pushed[:3])
    assert np.abs(wrenches - rest - pushed)[:, :3].max() < 0.1
    assert np.abs(wrenches - rest - pushed)[:, 3:].max() < 0.03
    rig.plant.set_external_force(BODY, [0.0] * 6)
    rig.run(2.0)
    assert np.abs(estimates(rig.run(0.1)) - rest).max() < 0.01


def test_measurement_that_is_not_finite_is_a_fault_and_never_an_estimate(rig, scene) -> None:
    rig.plant.set_external_force(BODY, [0.0, FORCE_N, 0.0, 0.0, 0.0, 0.0])
    rig.run(1.0)
    assert estimates(rig.states)[-1, 1] > 0.5 * FORCE_N
    rig.plant.set_external_force(BODY, [float("nan")] * 6)
    states = rig.run(0.1)
    lost = [s for s in states if not np.isfinite(s["q"] + s["dq"]).all()]
    assert len(lost) > 90
    assert all(s["mode"] == ControlMode.FAULT for s in lost)
    assert np.isfinite(estimates(states)).all()
    assert (estimates(lost) == 0).all()
    assert (np.array([s["tau_external"] for s in lost]) == 0).all()
    torques = np.array([s["tau"] for s in states])
    assert np.isfinite(torques).all()
    assert np.abs(np.diff(torques, axis=0)).max() <= 1.0 + 1e-9
    # The world begins anew, and so do host and estimate.
    rig.plant.request_reset(list(apply_layout(scene[2], sample_layout(1))))
    states = rig.run(1.0)
    assert states[-1]["mode"] == ControlMode.IDLE
    rest = at_rest(states)
    rig.plant.set_external_force(BODY, [0.0, FORCE_N, 0.0, 0.0, 0.0, 0.0])
    rig.run(2.0)
    assert (estimates(rig.run(0.1))[-1] - rest)[1] == pytest.approx(FORCE_N, abs=0.1)
