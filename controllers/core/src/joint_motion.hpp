// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "symmetric_eigen.hpp"
#include "vla_ros_core/admittance.hpp"

namespace vla_ros_core
{

/// Damped differential inverse kinematics; equations in admittance.hpp. noexcept, no allocation.
class DifferentialIk
{
public:
  /// Joint velocity [rad/s] for a twist of the end effector, posture pulled in the nullspace.
  JointVector solve(
    const JointMotion & config, const TaskJacobian & jacobian, const Vector6 & twist,
    const JointVector & q, const JointVector & posture) noexcept;

private:
  SymmetricEigen6 eigen_;
};

/// Joint velocity for the next tick: `wanted` scaled as a whole into velocity and position limits,
/// the change from `dq` as a whole into acceleration limits. True if anything was scaled.
/// Position limits come first, should a start beyond them leave no other choice.
bool limit_joint_motion(
  const JointMotion & config, const RobotModel & model, const JointVector & q,
  const JointVector & dq, double dt_s, JointVector & wanted) noexcept;

}  // namespace vla_ros_core
