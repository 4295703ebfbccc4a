// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Core>
#include <memory>
#include <string>
#include <vector>

#include "vla_ros_core/pose.hpp"
#include "vla_ros_core/sizes.hpp"

namespace vla_ros_core
{

/// Joint-space vector with room for kMaxJoints and no heap storage.
using JointVector = Eigen::Matrix<double, Eigen::Dynamic, 1, 0, kMaxJoints, 1>;
using JointMatrix =
  Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, 0, kMaxJoints, kMaxJoints>;
using TaskJacobian = Eigen::Matrix<double, 6, Eigen::Dynamic, 0, 6, kMaxJoints>;

/// Kinematics and dynamics of one arm, from a URDF, through Pinocchio.
///
/// Joints that are not named are locked at zero; their bodies keep their mass.
/// Thread-safety: one thread.
class RobotModel
{
public:
  /// Throws Error if a joint or frame is not in the URDF (naming those that are).
  RobotModel(
    const std::string & urdf_xml, const std::vector<std::string> & joint_names,
    const std::string & base_frame, const std::string & ee_frame,
    const std::vector<double> & armature);
  ~RobotModel();
  RobotModel(const RobotModel &) = delete;
  RobotModel & operator=(const RobotModel &) = delete;

  /// Compute everything below for a joint state. Real-time: noexcept, no allocation.
  void update(const JointVector & q, const JointVector & dq) noexcept;

  int n_joints() const noexcept { return n_joints_; }
  const Pose & ee_pose() const noexcept { return ee_pose_; }       ///< in base
  const Vector6 & ee_twist() const noexcept { return ee_twist_; }  ///< at the EE, along base axes
  const TaskJacobian & jacobian() const noexcept { return jacobian_; }  ///< rows linear first
  const JointMatrix & mass_matrix() const noexcept { return mass_matrix_; }
  const JointVector & gravity() const noexcept { return gravity_; }    ///< [N·m]
  const JointVector & coriolis() const noexcept { return coriolis_; }  ///< C(q, dq) dq [N·m]

  /// Names of all frames and, at the last update, their poses in base. Not for the loop.
  std::vector<std::string> link_names() const;
  std::vector<Pose> link_poses() const;

private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  int n_joints_;
  Pose ee_pose_;
  Vector6 ee_twist_ = Vector6::Zero();
  TaskJacobian jacobian_;
  JointMatrix mass_matrix_;
  JointVector gravity_;
  JointVector coriolis_;
};

}  // namespace vla_ros_core
