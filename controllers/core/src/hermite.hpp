// SPDX-License-Identifier: Apache-2.0
// Paths between two poses or joint positions that meet given velocities at both ends.
#pragma once

#include <Eigen/Core>
#include <cmath>

#include "vla_ros_core/pose.hpp"

namespace vla_ros_core
{

/// Pose with its first two derivatives. Base axes, linear first.
struct Motion
{
  Pose pose;
  Vector6 twist = Vector6::Zero();         ///< [m/s, rad/s]
  Vector6 acceleration = Vector6::Zero();  ///< [m/s^2, rad/s^2]
};

/// Weights of the cubic with ends x0, x1 and end velocities v0, v1 at `s` in 0..1 of `duration_s`.
struct HermiteWeights
{
  HermiteWeights(double s, double duration_s) noexcept
  {
    const double t = duration_s;
    x1 = s * s * (3.0 - 2.0 * s);
    v0 = t * s * (1.0 - s) * (1.0 - s);
    v1 = t * s * s * (s - 1.0);
    dx1 = 6.0 * s * (1.0 - s) / t;
    dv0 = (1.0 - s) * (1.0 - 3.0 * s);
    dv1 = s * (3.0 * s - 2.0);
    ddx1 = (6.0 - 12.0 * s) / (t * t);
    ddv0 = (6.0 * s - 4.0) / t;
    ddv1 = (6.0 * s - 2.0) / t;
  }

  double x1, v0, v1;
  double dx1, dv0, dv1;
  double ddx1, ddv0, ddv1;
};

/// Angular velocity that a rotation vector `phi` stands for while it changes by `rate`:
/// J_l(phi) rate with J_l = I + a [phi] + b [phi]^2; and its derivative.
struct RotationRate
{
  RotationRate(
    const Eigen::Vector3d & phi, const Eigen::Vector3d & rate,
    const Eigen::Vector3d & change) noexcept
  {
    const double angle2 = phi.squaredNorm();
    double a = 0.5, b = 1.0 / 6.0, da = -1.0 / 12.0, db = -1.0 / 60.0;  // da, db: per phi . rate
    if (angle2 > 1e-4)
    {
      const double angle = std::sqrt(angle2);
      const double sine = std::sin(angle);
      const double versine = 1.0 - std::cos(angle);
      a = versine / angle2;
      b = (angle - sine) / (angle2 * angle);
      da = (sine / angle - 2.0 * a) / angle2;
      db = (a - 3.0 * b) / angle2;
    }
    const double turn = phi.dot(rate);
    const Eigen::Vector3d once = phi.cross(rate);
    const Eigen::Vector3d twice = phi.cross(once);
    const Eigen::Vector3d change_once = phi.cross(change);
    omega = rate + a * once + b * twice;
    alpha = change + da * turn * once + a * change_once + db * turn * twice +
            b * (rate.cross(once) + phi.cross(change_once));
  }

  Eigen::Vector3d omega;
  Eigen::Vector3d alpha;
};

/// Rate of the rotation vector `phi` at angular velocity `omega`: J_l^-1(phi) omega.
inline Eigen::Vector3d rotation_vector_rate(
  const Eigen::Vector3d & phi, const Eigen::Vector3d & omega) noexcept
{
  const double angle2 = phi.squaredNorm();
  double c = 1.0 / 12.0;
  if (angle2 > 1e-4)
  {
    const double angle = std::sqrt(angle2);
    c = (1.0 - 0.5 * angle / std::tan(0.5 * angle)) / angle2;
  }
  return omega - 0.5 * phi.cross(omega) + c * phi.cross(phi.cross(omega));
}

/// Path between two poses that has their twists at its ends; cubic in position and in the rotation
/// vector from the first. Position and twist are continuous where paths meet.
class PosePath
{
public:
  PosePath() = default;
  PosePath(
    const Pose & from, const Vector6 & from_twist, const Pose & to, const Vector6 & to_twist,
    double duration_s) noexcept
  : from_(from), v0_(from_twist), duration_s_(duration_s)
  {
    step_ = pose_error(from, to);
    v1_.head<3>() = to_twist.head<3>();
    v1_.tail<3>() = rotation_vector_rate(step_.tail<3>(), to_twist.tail<3>());
  }

  double duration_s() const noexcept { return duration_s_; }

  /// `time_s` is within the path.
  Motion at(double time_s) const noexcept
  {
    const HermiteWeights w(time_s / duration_s_, duration_s_);
    const Vector6 x = w.x1 * step_ + w.v0 * v0_ + w.v1 * v1_;
    const Vector6 rate = w.dx1 * step_ + w.dv0 * v0_ + w.dv1 * v1_;
    const Vector6 change = w.ddx1 * step_ + w.ddv0 * v0_ + w.ddv1 * v1_;
    const RotationRate turn(x.tail<3>(), rate.tail<3>(), change.tail<3>());
    Motion m;
    m.pose.position = from_.position + x.head<3>();
    m.pose.rotation = exp_rotation(x.tail<3>()) * from_.rotation;
    m.pose.rotation.normalize();
    m.twist.head<3>() = rate.head<3>();
    m.twist.tail<3>() = turn.omega;
    m.acceleration.head<3>() = change.head<3>();
    m.acceleration.tail<3>() = turn.alpha;
    return m;
  }

private:
  Pose from_;
  Vector6 step_ = Vector6::Zero();
  Vector6 v0_ = Vector6::Zero();
  Vector6 v1_ = Vector6::Zero();
  double duration_s_ = 1.0;
};

}  // namespace vla_ros_core
