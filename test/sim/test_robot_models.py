# SPDX-License-Identifier: Apache-2.0
"""The models of the robots: MuJoCo against Pinocchio, UR5e against its data sheet, stability."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace

import mujoco
import numpy as np
import pytest
from robot_wheels import installed_robot

import vla_ros_core as core
from vla_ros.control.host import build_model, to_law_config
from vla_ros.embodiment.arm import arm_of
from vla_ros.embodiment.robot import RobotConfig, known_robots, load_robot
from vla_ros.errors import ConfigError
from vla_ros.sim.arms import END_EFFECTOR, build_arm, mechanism_of

pytestmark = pytest.mark.sim


@pytest.fixture(scope="module", params=known_robots())
def robot(request: pytest.FixtureRequest) -> RobotConfig:
    return installed_robot(request.param)


def random_q(robot: RobotConfig, random: np.random.Generator) -> np.ndarray:
    """Return joint positions from the middle 80 % of every range."""
    low, high = np.array(robot.limits.q_min_rad), np.array(robot.limits.q_max_rad)
    return random.uniform(low + 0.1 * (high - low), high - 0.1 * (high - low))


def with_armature(robot: RobotConfig, factor: float) -> RobotConfig:
    armature = tuple(factor * value for value in robot.model.armature_kg_m2)
    return replace(robot, model=replace(robot.model, armature_kg_m2=armature))


def test_simulation_and_law_have_the_same_dynamics(robot: RobotConfig) -> None:
    random = np.random.default_rng(0)
    model = build_arm(robot, 1e-3)
    data, law = mujoco.MjData(model), build_model(arm_of(robot))
    mass = np.zeros((model.nv, model.nv))
    for _ in range(200):
        q, dq = random_q(robot, random), random.normal(0, 1, model.nv)
        data.qpos[:], data.qvel[:] = q, dq
        mujoco.mj_forward(model, data)
        mujoco.mj_fullM(model, data, mass)
        law.update(list(q), list(dq))
        terms = law.terms()
        np.testing.assert_allclose(mass, terms["mass_matrix"], atol=1e-12)
        bias = terms["gravity"] + terms["coriolis"]
        np.testing.assert_allclose(data.qfrc_bias, bias, atol=1e-11)
        np.testing.assert_allclose(end_effector(model, data, robot), terms["position"], atol=1e-12)


def end_effector(model, data, robot: RobotConfig) -> np.ndarray:
    """Position (3,) of the end effector in the base frame; the root of a URDF is the world."""
    names = [model.body(i).name for i in range(model.nbody)]
    base = names.index(robot.base_frame) if robot.base_frame in names else 0
    R = data.xmat[base].reshape(3, 3)
    return R.T @ (data.site(END_EFFECTOR).xpos - data.xpos[base])


def test_limits_of_the_file_are_inside_those_of_the_urdf(robot: RobotConfig) -> None:
    root = ET.fromstring(arm_of(robot).urdf_xml)
    found = {j.get("name"): j.find("limit") for j in root.findall("joint")}
    limits = robot.limits
    for i, name in enumerate(robot.joint_names):
        stated = found[name].attrib
        assert limits.q_min_rad[i] >= float(stated["lower"]) - 1e-4
        assert limits.q_max_rad[i] <= float(stated["upper"]) + 1e-4
        assert limits.dq_max_rad_s[i] <= float(stated["velocity"]) + 1e-4
        assert limits.tau_max_nm[i] <= float(stated["effort"])


# Denavit-Hartenberg parameters, masses [kg] and centres of mass [m] of the UR5e as its manufacturer
# publishes them: a, d [m], alpha [rad]; the frame of a row is at the far end of its link.
UR5E = (
    (0.0, 0.1625, np.pi / 2, 3.761, (0.0, -0.02561, 0.00193)),
    (-0.425, 0.0, 0.0, 8.058, (0.2125, 0.0, 0.11336)),
    (-0.3922, 0.0, 0.0, 2.846, (0.15, 0.0, 0.0265)),
    (0.0, 0.1333, np.pi / 2, 1.37, (0.0, -0.0018, 0.01634)),
    (0.0, 0.0997, -np.pi / 2, 1.3, (0.0, 0.0018, 0.01634)),
    (0.0, 0.0996, 0.0, 0.365, (0.0, 0.0, -0.001159)),
)


def ur5e_by_table(q: np.ndarray) -> tuple[np.ndarray, float]:
    """Return the flange (4, 4) in the controller's base and the potential energy [J]."""
    T, energy_j = np.eye(4), 0.0
    for angle, (a, d, alpha, mass, centre) in zip(q, UR5E, strict=True):
        ct, st, ca, sa = np.cos(angle), np.sin(angle), np.cos(alpha), np.sin(alpha)
        T = T @ np.array(
            [[ct, -st * ca, st * sa, a * ct], [st, ct * ca, -ct * sa, a * st], [0, sa, ca, d],
             [0, 0, 0, 1]]
        )  # fmt: skip
        energy_j += mass * 9.81 * float((T @ [*centre, 1.0])[2])
    return T, energy_j


def test_ur5e_is_that_of_the_manufacturer_s_table() -> None:
    random = np.random.default_rng(1)
    ur5e = load_robot("ur5e")
    model = build_model(replace(arm_of(ur5e), base_frame="base"))
    for _ in range(200):
        q = random_q(ur5e, random)
        model.update(list(q), [0.0] * 6)
        terms = model.terms()
        T, _ = ur5e_by_table(q)
        np.testing.assert_allclose(terms["position"], T[:3, 3], atol=1e-8)
        steps = 1e-6 * np.eye(6)
        slope = [(ur5e_by_table(q + s)[1] - ur5e_by_table(q - s)[1]) / 2e-6 for s in steps]
        np.testing.assert_allclose(terms["gravity"], slope, atol=1e-6)


def spectral_radius(
    plant: RobotConfig, known: RobotConfig, q: np.ndarray, rate_hz: float, substeps: int = 4
) -> float:
    """Return the largest eigenvalue of one tick about rest at ``q``: below 1 is stable.

    The law of ``known`` holds the torque for a tick, in which MuJoCo takes ``substeps`` steps with
    the arm of ``plant``. Derivatives are central differences.
    """
    n, period_s = len(q), 1.0 / rate_hz
    model = build_arm(plant, period_s / substeps)
    model.actuator_ctrllimited[:] = 0
    data = mujoco.MjData(model)
    config = to_law_config(known.control, arm_of(known))
    config.posture, config.limit_torque_nm = list(q), 0.0
    config.torque_limit, config.torque_rate_limit = [1000.0] * n, [1e5] * n
    robot_model = build_model(arm_of(known))
    law = core.Law(config, robot_model)
    robot_model.update(list(q), [0.0] * n)
    terms = robot_model.terms()
    law.position[:], law.quat_xyzw[:] = terms["position"], terms["quat_xyzw"]

    def tick(state: np.ndarray) -> np.ndarray:
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:] = state[:n], state[n:]
        law.q[:], law.dq[:] = state[:n], state[n:]
        law.reset(list(terms["gravity"]))
        law.step(period_s)
        data.ctrl[:] = law.tau
        for _ in range(substeps):
            mujoco.mj_step(model, data)
        return np.concatenate([data.qpos, data.qvel])

    rest = np.concatenate([q, np.zeros(n)])
    steps = 1e-6 * np.eye(2 * n)
    columns = [(tick(rest + s) - tick(rest - s)) / 2e-6 for s in steps]
    return float(np.abs(np.linalg.eigvals(np.column_stack(columns))).max())


@pytest.mark.parametrize("rate_hz", [500.0, 1000.0])
def test_every_robot_is_stable_at_500_and_1000_hz(robot: RobotConfig, rate_hz: float) -> None:
    random = np.random.default_rng(2)
    model, poses = build_model(arm_of(robot)), [np.array(robot.home_q)]
    while len(poses) < 30:
        q = random_q(robot, random)
        model.update(list(q), [0.0] * len(q))
        if np.linalg.svd(model.terms()["jacobian"], compute_uv=False)[-1] >= 0.05:
            poses.append(q)
    assert max(spectral_radius(robot, robot, q, rate_hz) for q in poses) < 1.0
    # The law may know half of the rotor inertia that is there, or none of it.
    for factor in (0.5, 0.0):
        known = with_armature(robot, factor)
        assert max(spectral_radius(robot, known, q, rate_hz) for q in poses) < 1.0


@pytest.mark.parametrize(
    ("rate_hz", "in_plant", "in_law", "is_stable"),
    [
        # Nothing but links: the wrist turns 0.0001 kg·m², too little for 50 N·m/rad at 500 Hz.
        (500.0, 0.0, 0.0, False),
        (1000.0, 0.0, 0.0, True),
        (500.0, 0.03, 0.03, True),
        # Rotor inertia that is not there must not be damped.
        (500.0, 0.0, 1.0, False),
        (1000.0, 0.0, 1.0, False),
    ],
)
def test_stability_of_the_ur5e_hangs_on_its_rotor_inertia(
    rate_hz: float, in_plant: float, in_law: float, is_stable: bool
) -> None:
    ur5e = load_robot("ur5e")
    plant, known = with_armature(ur5e, in_plant), with_armature(ur5e, in_law)
    radius = spectral_radius(plant, known, np.array(ur5e.home_q), rate_hz)
    assert (radius < 1.0) == is_stable, radius


def test_model_without_a_named_joint_or_frame_is_refused() -> None:
    ur5e = load_robot("ur5e")
    with pytest.raises(ConfigError, match="joint 'nothing' is not in the URDF"):
        mechanism_of(arm_of(ur5e).urdf_xml, ("nothing",))
    with pytest.raises(ConfigError, match="ee_frame 'nothing' is not a link"):
        build_arm(replace(ur5e, ee_frame="nothing"), 1e-3)
