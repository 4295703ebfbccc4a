// SPDX-License-Identifier: Apache-2.0
// From generated parameter structs to the configuration of the core; the only place that knows
// both. Templates, because every controller has a struct of its own with the same field names.
#pragma once

#include <string>
#include <vector>

#include "vla_ros_controllers/arm_controller.hpp"
#include "vla_ros_core/error.hpp"
#include "vla_ros_core/law_config.hpp"
#include "vla_ros_core/wrench_estimator.hpp"

namespace vla_ros_controllers
{

/// A list of any length up to kMaxJoints. Throws vla_ros_core::Error naming the parameter.
inline vla_ros_core::JointVector to_joint_vector(
  const std::string & name, const std::vector<double> & values)
{
  if (values.size() > vla_ros_core::kMaxJoints)
  {
    throw vla_ros_core::Error(
      name + " has " + std::to_string(values.size()) + " values, at most " +
      std::to_string(vla_ros_core::kMaxJoints) + " are possible");
  }
  return Eigen::Map<const Eigen::VectorXd>(values.data(), static_cast<Eigen::Index>(values.size()));
}

/// One value per joint; a single value is meant for every joint.
inline vla_ros_core::JointVector per_joint(
  const std::string & name, const std::vector<double> & values, Eigen::Index n_joints)
{
  if (values.size() == 1) return vla_ros_core::JointVector::Constant(n_joints, values[0]);
  if (static_cast<Eigen::Index>(values.size()) != n_joints)
  {
    throw vla_ros_core::Error(
      name + " needs one value or " + std::to_string(n_joints) + ", got " +
      std::to_string(values.size()));
  }
  return to_joint_vector(name, values);
}

/// Six values, linear first.
inline vla_ros_core::Vector6 to_vector6(
  const std::string & name, const std::vector<double> & values)
{
  if (values.size() != 6)
  {
    throw vla_ros_core::Error(name + " needs 6 values, got " + std::to_string(values.size()));
  }
  return Eigen::Map<const vla_ros_core::Vector6>(values.data());
}

/// Six values of a diagonal, or 36 by rows.
inline vla_ros_core::Matrix6 to_matrix6(
  const std::string & name, const std::vector<double> & values)
{
  using ByRows = Eigen::Matrix<double, 6, 6, Eigen::RowMajor>;
  if (values.size() == 36) return Eigen::Map<const ByRows>(values.data());
  return to_vector6(name + " (6 or 36 values)", values).asDiagonal();
}

/// What every controller has.
template <typename Params>
ArmConfig to_arm_config(const Params & p)
{
  ArmConfig config;
  config.joints = p.joints;
  config.base_frame = p.base_frame;
  config.ee_frame = p.ee_frame;
  config.armature = p.armature;
  config.publish_rate_hz = p.publish_rate_hz;
  config.follower.authority.shm_prefix = p.shm_prefix;
  config.follower.authority.targets_need_lease = false;
  vla_ros_core::TargetConfig & target = config.follower.target;
  target.timeout_s = p.target_timeout_s;
  target.max_age_s = p.target_timeout_s;
  target.max_joint_speed_rad_s = p.target.max_joint_speed_rad_s;
  target.max_joint_acceleration_rad_s2 = p.target.max_joint_acceleration_rad_s2;
  target.max_joint_distance_rad = p.target.max_joint_distance_rad;
  return config;
}

/// What controllers have that follow poses.
template <typename Params>
void fill_motion(const Params & p, FollowerConfig & config)
{
  vla_ros_core::ReferenceConfig & reference = config.reference;
  reference.max_speed_m_s = p.reference.max_speed_m_s;
  reference.max_speed_rad_s = p.reference.max_speed_rad_s;
  reference.brake_m_s2 = p.reference.brake_m_s2;
  reference.brake_rad_s2 = p.reference.brake_rad_s2;
  reference.seam_time_constant_s = p.reference.seam_time_constant_s;
  reference.acceleration_feed_forward = p.reference.acceleration_feed_forward;
  vla_ros_core::TargetConfig & target = config.target;
  target.max_speed_m_s = reference.max_speed_m_s;
  target.max_speed_rad_s = reference.max_speed_rad_s;
  target.brake_m_s2 = reference.brake_m_s2;
  target.brake_rad_s2 = reference.brake_rad_s2;
  target.acceleration_feed_forward = reference.acceleration_feed_forward;
  target.max_acceleration_m_s2 = p.target.max_acceleration_m_s2;
  target.max_acceleration_rad_s2 = p.target.max_acceleration_rad_s2;
  target.max_distance_m = p.target.max_distance_m;
  target.max_angle_rad = p.target.max_angle_rad;
  config.authority.sources = p.segment_sources;
  // Rows may ask for three times the speed limit: the reference itself never moves faster.
  config.segment_limits.max_speed_m_s = 3.0 * reference.max_speed_m_s;
  config.segment_limits.max_speed_rad_s = 3.0 * reference.max_speed_rad_s;
}

/// What controllers have that take a target wrench.
template <typename Params>
void fill_wrench_limits(const Params & p, FollowerConfig & config)
{
  config.target.max_force_n = p.target.max_force_n;
  config.target.max_torque_nm = p.target.max_torque_nm;
  config.target.wrench_decay_s = p.target.wrench_decay_s;
}

template <typename Params>
vla_ros_core::FrictionModel to_friction(const Params & p)
{
  vla_ros_core::FrictionModel friction;
  friction.a = to_joint_vector("friction.a", p.friction.a);
  friction.b = to_joint_vector("friction.b", p.friction.b);
  friction.c = to_joint_vector("friction.c", p.friction.c);
  return friction;
}

template <typename Params>
vla_ros_core::WrenchEstimatorConfig to_estimator_config(const Params & p)
{
  vla_ros_core::WrenchEstimatorConfig config;
  config.time_constant_s = p.estimator.time_constant_s;
  config.robot_adds_gravity = !p.compensate_gravity;
  config.friction = to_friction(p);
  return config;
}

/// The part of the law that every torque controller has.
template <typename Params>
void fill_law(const Params & p, Eigen::Index n, vla_ros_core::LawConfig & c)
{
  c.gain_ramp_s = p.gain_ramp_s;
  c.stiffening_power_w = p.stiffening_power_w;
  c.compensate_gravity = p.compensate_gravity;
  c.compensate_coriolis = p.compensate_coriolis;
  c.friction = to_friction(p);
  c.friction_scale = p.friction.scale;
  c.limit_range_rad = p.joint_limit.range_rad;
  c.limit_torque_nm = p.joint_limit.torque_nm;
  c.velocity_limit = vla_ros_core::JointVector();
  if (!p.velocity_limit.joints_rad_s.empty())
  {
    c.velocity_limit = per_joint("velocity_limit.joints_rad_s", p.velocity_limit.joints_rad_s, n);
  }
  c.velocity_limit_damping = p.velocity_limit.damping;
  c.torque_limit = per_joint("torque.limit_nm", p.torque.limit_nm, n);
  c.torque_rate_limit = per_joint("torque.rate_limit_nm_s", p.torque.rate_limit_nm_s, n);
  c.fault_damping = p.fault_damping;
  c.filters.position_s = p.filters.position_s;
  c.filters.velocity_s = p.filters.velocity_s;
  c.filters.target_s = p.filters.target_s;
  c.filters.posture_s = p.filters.posture_s;
  c.filters.wrench_s = p.filters.wrench_s;
  c.filters.torque_s = p.filters.torque_s;
}

inline vla_ros_core::DampingDesign to_damping_design(const std::string & name)
{
  return name == "plain" ? vla_ros_core::DampingDesign::kPlain
                         : vla_ros_core::DampingDesign::kInertiaAware;
}

}  // namespace vla_ros_controllers
