# SPDX-License-Identifier: Apache-2.0
"""The published law that ours is timed against computes what was published.

Marked slow: its module is compiled first (a minute or two). Run it with ``-m slow``.
"""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pinocchio as pin
import pytest
from law_reference import pinocchio_model

from vla_ros.bench.build import load_law_bench
from vla_ros.bench.law import build_rendition, equal_features, random_states
from vla_ros.control.host import build_model
from vla_ros.geometry import quat_xyzw_to_matrix
from vla_ros.sim.plant import FR3_HOME_Q, fr3_arm

pytestmark = pytest.mark.slow
HOME = np.array(FR3_HOME_Q)
N = len(HOME)


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return load_law_bench()


class PublishedLaw:
    """The published formulas, step by step, with the operators they are published with."""

    def __init__(self, config):
        self.c = config
        arm = fr3_arm()
        self.model = pinocchio_model(arm)
        self.frame = self.model.getFrameId(arm.ee_frame)
        self.filtered = None
        self.tau = np.zeros(N)

    def step(self, q, dq, p_goal, R_goal, wrench, posture, posture_rate):
        c, model = self.c, self.model
        old = self.filtered or (q, dq, p_goal, R_goal, posture)
        q = (1 - c.filter_q) * q + c.filter_q * old[0]
        dq = (1 - c.filter_dq) * dq + c.filter_dq * old[1]
        p_d = (1 - c.filter_target) * p_goal + c.filter_target * old[2]
        R_d = R_goal @ pin.exp3(c.filter_target * pin.log3(R_goal.T @ old[3]))
        posture = (1 - c.filter_posture) * posture + c.filter_posture * old[4]
        self.filtered = (q, dq, p_d, R_d, posture)
        data = model.createData()
        pin.framesForwardKinematics(model, data, q)
        ee = data.oMf[self.frame]
        R = ee.rotation
        axes = pin.LOCAL if c.end_effector_axes else pin.LOCAL_WORLD_ALIGNED
        J = pin.computeFrameJacobian(model, data, q, self.frame, axes)
        if c.end_effector_axes:
            error = np.concatenate([R.T @ (p_d - ee.translation), pin.log3(R.T @ R_d)])
        else:
            error = np.concatenate([p_d - ee.translation, pin.log3(R_d @ R.T)])
        if c.limit_error:
            error = np.clip(error, -c.error_clip, c.error_clip)
        K = np.asarray(c.stiffness)
        w = K * error - np.where(c.damping > 0, c.damping, 2 * np.sqrt(K)) * (J @ dq)
        M = np.triu(pin.crba(model, data, q))
        M = M + np.triu(M, 1).T
        inertia = damped_inverse(J @ np.linalg.inv(M) @ J.T, c.operational_regularisation)
        tau = J.T @ (inertia @ w if c.operational_space else w)
        k = np.asarray(c.nullspace_stiffness)
        d = c.nullspace_damping if c.nullspace_damping > 0 else 2 * np.sqrt(k)
        pull = k * (posture - q) + d * (posture_rate - dq)
        projectors = {
            "KINEMATIC": np.eye(N) - damped_inverse(J, c.nullspace_regularisation) @ J,
            "DYNAMIC": np.eye(N) - J.T @ inertia @ J @ np.linalg.inv(M),
            "NONE": np.eye(N),
        }
        limit = c.nullspace_torque_limit_nm
        tau = tau + np.clip(projectors[c.projection.name] @ pull, -limit, limit)
        tau = tau + J.T @ wrench + self.extra(q, dq, data)
        if c.limit_torque_rate:
            step = c.torque_step_nm
            tau = self.tau + np.clip(tau - self.tau, -step, step)
        self.tau = (1 - c.filter_torque) * tau + c.filter_torque * self.tau
        return self.tau

    def extra(self, q, dq, data):
        c, model = self.c, self.model
        tau = np.zeros(N)
        if c.friction:
            a, b, s = (np.asarray(v) for v in (c.friction_a, c.friction_b, c.friction_c))
            tau += a / (1 + np.exp(-b * (dq + s))) - a / (1 + np.exp(-b * s))
        if c.coriolis:
            tau += pin.rnea(model, data, q, dq, np.zeros(N)) - pin.rnea(
                model, data, q, np.zeros(N), np.zeros(N)
            )
        if c.gravity:
            tau += pin.rnea(model, data, q, np.zeros(N), np.zeros(N))
        low = (c.limit_range_rad - (q - model.lowerPositionLimit)) / c.limit_range_rad
        high = (c.limit_range_rad - (model.upperPositionLimit - q)) / c.limit_range_rad
        return tau + c.limit_torque_nm * (np.clip(low, 0, 1) - np.clip(high, 0, 1))


def damped_inverse(A, epsilon):
    """Return A^T (A A^T + epsilon^2 I)^-1."""
    return A.T @ np.linalg.inv(A @ A.T + epsilon**2 * np.eye(len(A)))


def settings(bench, random, **changes):
    c = bench.RenditionConfig.for_joints(N)
    c.friction_a, c.friction_b = random.uniform(0.3, 1.3, N), random.uniform(5, 17, N)
    c.friction_c = random.uniform(-0.05, 0.05, N)
    for name, value in changes.items():
        setattr(c, name, value)
    return c


@pytest.mark.parametrize("operational_space", [False, True])
@pytest.mark.parametrize("projection", ["KINEMATIC", "DYNAMIC", "NONE"])
@pytest.mark.parametrize("full", [False, True])
def test_torque_follows_the_published_formulas(bench, operational_space, projection, full):
    random = np.random.default_rng(3)
    changes = {"operational_space": operational_space}
    changes["projection"] = getattr(bench.Projection, projection)
    if full:
        changes |= {"friction": True, "coriolis": True, "gravity": True, "end_effector_axes": True}
        changes |= {"nullspace_stiffness": random.uniform(1, 20, N), "nullspace_damping": 2.0}
        changes |= {"damping": np.array([60.0, 60, -1, 10, 10, -1]), "torque_step_nm": 20.0}
    config = settings(bench, random, **changes)
    arm = fr3_arm()
    rendition, published = build_rendition(bench, arm, config), PublishedLaw(config)
    home = build_model(arm)
    home.update(list(HOME), [0.0] * N)
    for _ in range(300):
        q, dq = HOME + random.normal(0, 0.3, N), random.normal(0, 0.3, N)
        p = np.asarray(home.terms()["position"]) + random.normal(0, 0.05, 3)
        quat = np.asarray(home.terms()["quat_xyzw"]) + random.normal(0, 0.1, 4)
        quat /= np.linalg.norm(quat)
        wrench, posture = random.normal(0, 5, 6), HOME + random.normal(0, 0.3, N)
        rate = random.normal(0, 0.1, N)
        got = rendition.step(q, dq, p, quat, wrench, posture, rate)
        want = published.step(q, dq, p, quat_xyzw_to_matrix(quat), wrench, posture, rate)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-9)


@pytest.mark.parametrize("osc", [False, True])
def test_laws_that_are_timed_against_each_other_give_the_same_torque(bench, osc):
    arm = fr3_arm()
    ours, theirs = equal_features(bench, arm, osc=osc, limits=False)
    states = random_states(bench, arm, 2000, seed=1)
    times = bench.measure(ours, build_model(arm), theirs, states)
    assert times.largest_difference_nm < 1e-9
