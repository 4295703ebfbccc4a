// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <Eigen/Core>
#include <Eigen/Geometry>
#include <cmath>

namespace vla_ros_core
{

using Vector6 = Eigen::Matrix<double, 6, 1>;
using Matrix6 = Eigen::Matrix<double, 6, 6>;

/// Position [m] and orientation of a frame in the base frame.
struct Pose
{
  Eigen::Vector3d position = Eigen::Vector3d::Zero();
  Eigen::Quaterniond rotation = Eigen::Quaterniond::Identity();
};

/// Rotation vector [rad] of a unit quaternion, shortest way round.
inline Eigen::Vector3d log_rotation(Eigen::Quaterniond q) noexcept
{
  if (q.w() < 0.0) q.coeffs() = -q.coeffs();
  const double sine = q.vec().norm();
  if (sine < 1e-9) return 2.0 * q.vec();
  return q.vec() * (2.0 * std::atan2(sine, q.w()) / sine);
}

/// Unit quaternion of a rotation vector [rad].
inline Eigen::Quaterniond exp_rotation(const Eigen::Vector3d & rotvec) noexcept
{
  const double angle = rotvec.norm();
  if (angle < 1e-9)
  {
    return Eigen::Quaterniond(1.0, 0.5 * rotvec.x(), 0.5 * rotvec.y(), 0.5 * rotvec.z())
      .normalized();
  }
  const Eigen::Vector3d v = rotvec * (std::sin(0.5 * angle) / angle);
  return Eigen::Quaterniond(std::cos(0.5 * angle), v.x(), v.y(), v.z());
}

/// Error that takes `from` to `to`, translation and rotation separately, in the base frame.
inline Vector6 pose_error(const Pose & from, const Pose & to) noexcept
{
  Vector6 error;
  error.head<3>() = to.position - from.position;
  error.tail<3>() = log_rotation(to.rotation * from.rotation.conjugate());
  return error;
}

}  // namespace vla_ros_core
