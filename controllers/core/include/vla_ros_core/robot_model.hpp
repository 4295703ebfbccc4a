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

/// Which terms of the dynamics an update computes; kinematics always.
struct ModelTerms
{
  bool mass = true;
  bool gravity = true;
  bool coriolis = true;

  bool operator==(const ModelTerms & other) const noexcept
  {
    return mass == other.mass && gravity == other.gravity && coriolis == other.coriolis;
  }
};

/// Load fixed to the end effector.
struct Payload
{
  double mass_kg = 0.0;
  Eigen::Vector3d com_m = Eigen::Vector3d::Zero();  ///< centre of mass in the end-effector frame
  Eigen::Matrix3d inertia_kg_m2 = Eigen::Matrix3d::Zero();  ///< about the centre of mass, same axes
};

/// Kinematics and dynamics of one arm, from a URDF, through Pinocchio.
///
/// Joints that are not named are locked at zero; their bodies keep their mass. Continuous joints
/// are taken as revolute ones without limits. Gravity points along -z of the URDF's root.
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
  /// Only what `terms` asks for; the rest keeps its last value. gravity() and coriolis() by
  /// themselves are left to the other update(): here their sum is bias().
  void update(const JointVector & q, const JointVector & dq, const ModelTerms & terms) noexcept;

  /// Compute the mass matrix of the last update if that left it out.
  void require_mass() noexcept;

  /// Gravity torque of a joint position, outside of update().
  const JointVector & gravity_only(const JointVector & q) noexcept;

  /// Throws Error if the mass is not 0 to 100 kg or the inertia cannot be that of a body.
  void set_payload(const Payload & payload);

  int n_joints() const noexcept { return n_joints_; }
  const ModelTerms & terms() const noexcept { return terms_; }     ///< of the last update
  const Pose & ee_pose() const noexcept { return ee_pose_; }       ///< in base
  const Vector6 & ee_twist() const noexcept { return ee_twist_; }  ///< at the EE, along base axes
  const TaskJacobian & jacobian() const noexcept { return jacobian_; }  ///< rows linear first
  const JointMatrix & mass_matrix() const noexcept { return mass_matrix_; }
  const JointVector & gravity() const noexcept { return gravity_; }    ///< [N·m]
  const JointVector & coriolis() const noexcept { return coriolis_; }  ///< C(q, dq) dq [N·m]
  const JointVector & bias() const noexcept { return bias_; }    ///< those of both asked for [N·m]
  const JointVector & q_min() const noexcept { return q_min_; }  ///< of the URDF [rad], -inf: none
  const JointVector & q_max() const noexcept { return q_max_; }

  /// Names of all frames and, at the last update, their poses in base. Not for the loop.
  std::vector<std::string> link_names() const;
  std::vector<Pose> link_poses() const;

private:
  struct Impl;
  void copy_mass() noexcept;
  void update_kinematics(const JointVector & dq) noexcept;

  std::unique_ptr<Impl> impl_;
  int n_joints_;
  ModelTerms terms_;
  Pose ee_pose_;
  Vector6 ee_twist_ = Vector6::Zero();
  TaskJacobian jacobian_;
  JointMatrix mass_matrix_;
  JointVector gravity_;
  JointVector coriolis_;
  JointVector bias_;
  JointVector q_min_;
  JointVector q_max_;
};

}  // namespace vla_ros_core
