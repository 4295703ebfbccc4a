// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "symmetric_eigen.hpp"
#include "vla_ros_core/admittance.hpp"

namespace vla_ros_core
{

/// Joint velocities [rad/s] that keep a way to stop before the velocity and position limits.
/// low <= 0 <= high always.
struct JointBounds
{
  JointVector low;
  JointVector high;
};

JointBounds joint_bounds(
  const JointMotion & config, const RobotModel & model, const JointVector & q,
  double dt_s) noexcept;

/// Damped differential inverse kinematics; equations in admittance.hpp. noexcept, no allocation.
class DifferentialIk
{
public:
  /// Joint velocity [rad/s] for a twist of the end effector, posture pulled in the nullspace.
  /// Joints at a position limit that it would push further are left out as long as six remain.
  JointVector solve(
    const JointMotion & config, const TaskJacobian & jacobian, const Vector6 & twist,
    const JointVector & q, const JointVector & posture, const JointBounds & bounds) noexcept;

private:
  JointVector solve_free(
    const JointMotion & config, const TaskJacobian & scaled, const Vector6 & u,
    const JointVector & pull) noexcept;

  SymmetricEigen6 eigen_;
};

/// Joint velocity for the next tick: `wanted` scaled as a whole into the bounds, the change from
/// `dq` as a whole into acceleration limits. True if anything was scaled. Bounds come first,
/// should a start beyond the limits leave no other choice.
bool limit_joint_motion(
  const JointMotion & config, const JointBounds & bounds, const JointVector & dq, double dt_s,
  JointVector & wanted) noexcept;

}  // namespace vla_ros_core
