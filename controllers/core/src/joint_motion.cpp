// SPDX-License-Identifier: Apache-2.0
#include "joint_motion.hpp"

#include <algorithm>
#include <cmath>

namespace vla_ros_core
{

namespace
{

/// Directions of J J^T with less than this [m^2/rad^2] are rounding: the nullspace has them.
constexpr double kNullDirection = 1e-10;

/// A joint that may move no faster than this towards a limit is at that limit [rad/s].
constexpr double kBlockedRadS = 1e-3;

/// Highest speed from which the deceleration `a` in steps of `dt_s` still ends within `distance`.
///
/// Braking from v takes at most v^2 / (2 a) + v dt / 2 + a dt^2 / 8, the last term because v need
/// not be a whole number of steps a dt.
double braking_speed(double distance, double a, double dt_s) noexcept
{
  const double usable = distance - 0.125 * a * dt_s * dt_s;
  if (usable <= 0.0) return 0.0;
  const double half = 0.5 * a * dt_s;
  return std::sqrt(half * half + 2.0 * a * usable) - half;
}

}  // namespace

JointBounds joint_bounds(
  const JointMotion & config, const RobotModel & model, const JointVector & q, double dt_s) noexcept
{
  JointBounds bounds{JointVector(q.size()), JointVector(q.size())};
  for (Eigen::Index i = 0; i < q.size(); ++i)
  {
    // Half the deceleration: the other half is left for what the task wants meanwhile.
    const double a = 0.5 * config.acceleration_limit[i];
    const double to_high = model.q_max()[i] - config.position_margin_rad - q[i];
    const double to_low = q[i] - model.q_min()[i] - config.position_margin_rad;
    bounds.high[i] = std::min(config.velocity_limit[i], braking_speed(to_high, a, dt_s));
    bounds.low[i] = -std::min(config.velocity_limit[i], braking_speed(to_low, a, dt_s));
  }
  return bounds;
}

JointVector DifferentialIk::solve(
  const JointMotion & config, const TaskJacobian & jacobian, const Vector6 & twist,
  const JointVector & q, const JointVector & posture, const JointBounds & bounds) noexcept
{
  TaskJacobian scaled = jacobian;
  scaled.bottomRows<3>() *= config.length_m;
  Vector6 u = twist;
  u.tail<3>() *= config.length_m;
  JointVector pull = JointVector::Zero(q.size());
  if (q.size() > 6)
  {
    pull = config.posture_gain_1_s * (posture - q);
    const double fastest = pull.cwiseAbs().maxCoeff();
    if (fastest > config.posture_speed_rad_s) pull *= config.posture_speed_rad_s / fastest;
  }
  JointVector dq = solve_free(config, scaled, u, pull);
  for (Eigen::Index free = q.size(); free > 6;)
  {
    const Eigen::Index before = free;
    for (Eigen::Index i = 0; i < q.size() && free > 6; ++i)
    {
      const bool is_blocked = (dq[i] > 0.0 && bounds.high[i] < kBlockedRadS) ||
                              (dq[i] < 0.0 && bounds.low[i] > -kBlockedRadS);
      if (!is_blocked) continue;
      scaled.col(i).setZero();
      pull[i] = 0.0;
      --free;
    }
    if (free == before) break;
    dq = solve_free(config, scaled, u, pull);
  }
  return dq;
}

JointVector DifferentialIk::solve_free(
  const JointMotion & config, const TaskJacobian & scaled, const Vector6 & u,
  const JointVector & pull) noexcept
{
  Matrix6 square;
  square.noalias() = scaled.lazyProduct(scaled.transpose());
  eigen_.update(square);
  const Matrix6 & v = eigen_.vectors();
  const double threshold = config.smallest_singular_value * config.smallest_singular_value;
  Vector6 w = v.transpose() * u;
  // The projector I - J^+ J needs no damping: its norm is one at any pose.
  Vector6 y = v.transpose() * (scaled * pull);
  for (int i = 0; i < 6; ++i)
  {
    const double value = eigen_.values()[i];
    w[i] /= std::max(value, threshold);
    y[i] = value > kNullDirection ? y[i] / value : 0.0;
  }
  return pull + scaled.transpose() * (v * (w - y));
}

bool limit_joint_motion(
  const JointMotion & config, const JointBounds & bounds, const JointVector & dq, double dt_s,
  JointVector & wanted) noexcept
{
  const Eigen::Index n = dq.size();
  double scale = 1.0;
  for (Eigen::Index i = 0; i < n; ++i)
  {
    if (wanted[i] > bounds.high[i]) scale = std::min(scale, bounds.high[i] / wanted[i]);
    if (wanted[i] < bounds.low[i]) scale = std::min(scale, bounds.low[i] / wanted[i]);
  }
  wanted *= scale;
  // The change begins at the allowed velocity next to the last one: of a convex set of allowed
  // velocities that holds both ends, every point between is allowed too.
  const JointVector anchor = dq.cwiseMax(bounds.low).cwiseMin(bounds.high);
  double share_of_change = 1.0;
  for (Eigen::Index i = 0; i < n; ++i)
  {
    const double step = config.acceleration_limit[i] * dt_s;
    const double change = wanted[i] - anchor[i];
    const double room = change > 0.0 ? dq[i] + step - anchor[i] : anchor[i] - dq[i] + step;
    if (std::abs(change) > room)
    {
      share_of_change = std::min(share_of_change, std::max(0.0, room) / std::abs(change));
    }
  }
  wanted = anchor + share_of_change * (wanted - anchor);
  return scale < 1.0 || share_of_change < 1.0;
}

}  // namespace vla_ros_core
