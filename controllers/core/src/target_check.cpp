// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>

#include "vla_ros_core/config_check.hpp"
#include "vla_ros_core/target.hpp"

namespace vla_ros_core
{

namespace
{

constexpr double kQuaternionTolerance = 1e-3;

bool is_finite(const double * values, size_t n) noexcept
{
  return std::all_of(values, values + n, [](double v) { return std::isfinite(v); });
}

Rejection check_stamp(int64_t stamp_ns, const TargetConfig & config, int64_t now_ns) noexcept
{
  if (stamp_ns == 0) return Rejection::kNone;
  // Compared as numbers of seconds: a wild stamp must not overflow.
  const double age_s = 1e-9 * (static_cast<double>(now_ns) - static_cast<double>(stamp_ns));
  if (age_s < -config.max_ahead_s) return Rejection::kFuture;
  return age_s > config.max_age_s ? Rejection::kTooOld : Rejection::kNone;
}

Rejection check_frame(const std::string & frame, const TargetNames & names) noexcept
{
  if (frame.empty() || frame == names.base_frame) return Rejection::kNone;
  const bool is_known =
    std::find(names.frames.begin(), names.frames.end(), frame) != names.frames.end();
  return is_known ? Rejection::kWrongFrame : Rejection::kUnknownFrame;
}

Pose pose_of(const double * position, const double * quat_xyzw) noexcept
{
  Pose pose;
  pose.position = Eigen::Map<const Eigen::Vector3d>(position);
  pose.rotation.coeffs() = Eigen::Map<const Eigen::Vector4d>(quat_xyzw);
  pose.rotation.normalize();
  return pose;
}

}  // namespace

void TargetConfig::validate() const
{
  check_range("max_speed_m_s", max_speed_m_s, 1e-3, 3.0);
  check_range("max_speed_rad_s", max_speed_rad_s, 1e-3, 10.0);
  check_range("max_acceleration_m_s2", max_acceleration_m_s2, 0.1, 50.0);
  check_range("max_acceleration_rad_s2", max_acceleration_rad_s2, 0.1, 150.0);
  check_range("brake_m_s2", brake_m_s2, 0.1, 13.0);
  check_range("brake_rad_s2", brake_rad_s2, 0.1, 25.0);
  check_range("max_joint_speed_rad_s", max_joint_speed_rad_s, 1e-3, 10.0);
  check_range("max_joint_acceleration_rad_s2", max_joint_acceleration_rad_s2, 0.1, 100.0);
  check_range("max_distance_m", max_distance_m, 1e-3, 5.0);
  check_range("max_angle_rad", max_angle_rad, 1e-3, 3.0);
  check_range("max_joint_distance_rad", max_joint_distance_rad, 1e-3, 7.0);
  check_range("max_force_n", max_force_n, 0.0, 1000.0);
  check_range("max_torque_nm", max_torque_nm, 0.0, 200.0);
  check_range("max_age_s", max_age_s, 1e-3, 10.0);
  check_range("max_ahead_s", max_ahead_s, 0.0, 10.0);
  check_range("max_extrapolation_s", max_extrapolation_s, 0.0, 0.5);
  check_range("timeout_s", timeout_s, 0.01, 10.0);
  check_range("wrench_decay_s", wrench_decay_s, 1e-3, 5.0);
  check_range("hold_time_constant_s", hold_time_constant_s, 1e-3, 1.0);
}

TargetNames TargetNames::of_arm(
  const RobotModel & model, const std::string & base_frame, const std::string & ee_frame,
  const std::vector<std::string> & joint_names)
{
  if (joint_names.size() != static_cast<size_t>(model.n_joints()))
  {
    throw Error(
      "joint_names needs " + std::to_string(model.n_joints()) + " names, got " +
      std::to_string(joint_names.size()));
  }
  return {base_frame, ee_frame, model.link_names(), joint_names, model.q_min(), model.q_max()};
}

Rejection check_target_pose(
  const PoseTarget & t, const std::string & frame, const TargetNames & names,
  const TargetConfig & config, const PresentReference & present, int64_t now_ns) noexcept
{
  const Rejection frame_reason = check_frame(frame, names);
  if (frame_reason != Rejection::kNone) return frame_reason;
  if (!is_finite(t.position, 3) || !is_finite(t.quat_xyzw, 4)) return Rejection::kNotFinite;
  if (t.has_twist != 0 && !is_finite(t.twist, 6)) return Rejection::kNotFinite;
  const double norm = Eigen::Map<const Eigen::Vector4d>(t.quat_xyzw).norm();
  if (std::abs(norm - 1.0) > kQuaternionTolerance) return Rejection::kQuaternion;
  const Rejection stamp_reason = check_stamp(t.stamp_ns, config, now_ns);
  if (stamp_reason != Rejection::kNone) return stamp_reason;
  const Eigen::Map<const Vector6> twist(t.twist);
  if (
    t.has_twist != 0 && (twist.head<3>().norm() > config.max_speed_m_s ||
                         twist.tail<3>().norm() > config.max_speed_rad_s))
  {
    return Rejection::kTooFast;
  }
  const Vector6 step =
    pose_error(pose_of(present.position, present.quat_xyzw), pose_of(t.position, t.quat_xyzw));
  const bool is_far =
    step.head<3>().norm() > config.max_distance_m || step.tail<3>().norm() > config.max_angle_rad;
  return is_far ? Rejection::kTooFar : Rejection::kNone;
}

Rejection check_target_joint(
  const std::vector<std::string> & joint_names, const std::vector<double> & q,
  const std::vector<double> & dq, const TargetNames & names, const TargetConfig & config,
  const PresentReference & present, int64_t now_ns, JointTarget & target) noexcept
{
  const size_t n = names.joint_names.size();
  if (q.size() != joint_names.size() || (!dq.empty() && dq.size() != q.size()))
  {
    return Rejection::kLength;
  }
  bool is_given[kMaxJoints] = {};
  target.has_dq = dq.empty() ? 0 : 1;
  for (size_t i = 0; i < joint_names.size(); ++i)
  {
    const auto begin = names.joint_names.begin();
    const auto found = std::find(begin, names.joint_names.end(), joint_names[i]);
    if (found == names.joint_names.end()) return Rejection::kUnknownJoint;
    const auto k = static_cast<size_t>(found - begin);
    if (is_given[k]) return Rejection::kRepeatedJoint;
    is_given[k] = true;
    target.q[k] = q[i];
    target.dq[k] = dq.empty() ? 0.0 : dq[i];
    if (!std::isfinite(target.q[k]) || !std::isfinite(target.dq[k])) return Rejection::kNotFinite;
    const auto row = static_cast<Eigen::Index>(k);
    if (q[i] < names.q_min[row] || q[i] > names.q_max[row]) return Rejection::kJointLimit;
    if (std::abs(target.dq[k]) > config.max_joint_speed_rad_s) return Rejection::kTooFast;
    if (std::abs(q[i] - present.q[k]) > config.max_joint_distance_rad) return Rejection::kTooFar;
  }
  if (joint_names.size() != n) return Rejection::kLength;
  return check_stamp(target.stamp_ns, config, now_ns);
}

Rejection check_target_wrench(
  WrenchTarget & target, const std::string & frame, const TargetNames & names,
  const TargetConfig & config, int64_t now_ns) noexcept
{
  if (!frame.empty() && frame == names.ee_frame)
  {
    target.in_tool_axes = 1;
  }
  else if (const Rejection reason = check_frame(frame, names); reason != Rejection::kNone)
  {
    return reason;
  }
  if (!is_finite(target.wrench, 6)) return Rejection::kNotFinite;
  const Eigen::Map<const Vector6> wrench(target.wrench);
  const bool is_large =
    wrench.head<3>().norm() > config.max_force_n || wrench.tail<3>().norm() > config.max_torque_nm;
  return is_large ? Rejection::kTooLarge : check_stamp(target.stamp_ns, config, now_ns);
}

}  // namespace vla_ros_core
