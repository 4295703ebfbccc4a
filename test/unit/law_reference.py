# SPDX-License-Identifier: Apache-2.0
"""The control law once more, written from its definition in NumPy and Pinocchio's Python module.

Nothing here is shared with the core: damping comes from a matrix square root by a general
eigenvalue solver, inverses are explicit, gradients are finite differences.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pinocchio as pin

from vla_ros.control.host import ArmDescription

SMALLEST_PIVOT = 3e-4


@dataclass
class ReferenceLaw:
    """One arm and the settings of its law, as plain arrays."""

    model: pin.Model
    frame: int
    kind: str = "impedance"
    design: str = "inertia_aware"
    projector: str = "dynamic"
    axes: str = "base"
    stiffness: np.ndarray = field(default_factory=lambda: np.diag([800.0] * 3 + [40.0] * 3))
    ratio: float = 1.0
    extra: np.ndarray = field(default_factory=lambda: np.zeros(6))
    clip: np.ndarray = field(default_factory=lambda: np.array([0.05] * 3 + [0.4] * 3))
    null_stiffness: np.ndarray | None = None
    null_limit: float = 1000.0
    joint_stiffness: np.ndarray | None = None
    joint_extra: np.ndarray | None = None
    epsilon: float = 0.0
    gravity: bool = True
    coriolis: bool = True
    manipulability: float = 0.0

    def torque(self, q, dq, position, R_goal, twist, acceleration, wrench, posture, posture_rate):
        """Return the torque (n,) [N·m] before limits."""
        n = self.model.nq
        data = self.model.createData()
        pin.forwardKinematics(self.model, data, q, dq)
        pin.updateFramePlacements(self.model, data)
        J = pin.computeFrameJacobian(self.model, data, q, self.frame, pin.LOCAL_WORLD_ALIGNED)
        ee = data.oMf[self.frame]
        M = pin.crba(self.model, data, q)
        M = np.triu(M) + np.triu(M, 1).T
        error = np.concatenate([position - ee.translation, pin.log3(R_goal @ ee.rotation.T)])
        velocity_error = twist - J @ dq
        if self.axes == "end_effector":
            turn = np.kron(np.eye(2), ee.rotation.T)
            J, error, velocity_error = turn @ J, turn @ error, turn @ velocity_error
            acceleration, wrench = turn @ acceleration, turn @ wrench
        error = np.clip(error, -self.clip, self.clip)
        A = J @ np.linalg.inv(M) @ J.T
        pivot = np.diag(np.linalg.cholesky(A)).min() ** 2
        regular = A + max(0.0, SMALLEST_PIVOT - pivot) * np.eye(6)
        inertia = np.linalg.inv(regular)
        tau = np.zeros(n)
        if self.gravity:
            tau += pin.computeGeneralizedGravity(self.model, data, q)
        if self.coriolis:
            tau += pin.computeCoriolisMatrix(self.model, data, q, dq) @ dq
        if self.kind == "joint":
            mass = np.diag(M) if self.design == "inertia_aware" else np.ones(n)
            k = self.joint_stiffness
            d = 2 * np.sqrt(k * mass) + self.joint_extra
            return (
                tau + J.T @ wrench + k * np.clip(posture - q, -0.5, 0.5) + d * (posture_rate - dq)
            )
        K = self.stiffness
        if self.kind == "impedance" and self.design == "inertia_aware":
            damping = 2 * self.ratio * inertia @ root(regular @ K)
        else:
            damping = 2 * self.ratio * root(K)
        wanted = K @ error + (damping + np.diag(self.extra)) @ velocity_error
        if self.kind == "operational_space":
            values, vectors = np.linalg.eigh(A)
            scaled = (vectors * (values / (values**2 + self.epsilon**2))) @ vectors.T
            wanted = (scaled if self.epsilon else inertia) @ (wanted + acceleration)
        else:
            wanted = wanted + inertia @ acceleration
        tau += J.T @ (wanted + wrench)
        pull = self.null_stiffness * (posture - q)
        pull += 2 * np.sqrt(self.null_stiffness) * (posture_rate - dq)
        if self.manipulability:
            pull += self.manipulability * self.manipulability_gradient(q)
        if self.projector == "none":
            N = np.eye(n)
        elif n <= 6:
            N = np.zeros((n, n))
        elif self.projector == "dynamic":
            N = np.eye(n) - J.T @ inertia @ J @ np.linalg.inv(M)
        else:
            N = np.eye(n) - J.T @ np.linalg.inv(J @ J.T + 1e-12 * np.eye(6)) @ J
        pull = N @ pull
        return tau + pull * min(1.0, self.null_limit / np.abs(pull).max())

    def manipulability_gradient(self, q, step=1e-6):
        """Return d sqrt(det(J J^T)) / dq by central differences."""

        def value(at):
            data = self.model.createData()
            J = pin.computeFrameJacobian(self.model, data, at, self.frame, pin.LOCAL_WORLD_ALIGNED)
            return np.sqrt(np.linalg.det(J @ J.T))

        steps = np.eye(self.model.nq) * step
        return np.array([(value(q + s) - value(q - s)) / (2 * step) for s in steps])


def root(matrix: np.ndarray) -> np.ndarray:
    """Return the square root of a product of two symmetric non-negative matrices."""
    values, vectors = np.linalg.eig(matrix)
    return np.real((vectors * np.sqrt(values.real.clip(0))) @ np.linalg.inv(vectors))


def pinocchio_model(arm: ArmDescription) -> pin.Model:
    """Return the arm with every joint locked that it does not name."""
    full = pin.buildModelFromXML(arm.urdf_xml)
    locked = [i for i in range(1, full.njoints) if full.names[i] not in arm.joint_names]
    model = pin.buildReducedModel(full, locked, pin.neutral(full))
    if len(arm.armature_kg_m2):
        model.armature = np.array(arm.armature_kg_m2)
    return model
