// SPDX-License-Identifier: Apache-2.0
// What follows the targets of one kind: estimates their motion, leads there, brakes, holds.
#pragma once

#include <algorithm>
#include <cmath>

#include "hermite.hpp"
#include "stream_plan.hpp"
#include "vla_ros_core/target.hpp"

namespace vla_ros_core
{

inline constexpr double kShortestPath_s = 0.01;

inline double seconds_since(int64_t then_ns, int64_t now_ns) noexcept
{
  return 1e-9 * static_cast<double>(now_ns - then_ns);
}

/// Shorten `v` by `step`, stopping at zero.
template <typename Vector>
void slow_down(Vector && v, double step) noexcept
{
  const double norm = v.norm();
  v *= norm <= step ? 0.0 : 1.0 - step / norm;
}

inline Pose moved(const Pose & pose, const Vector6 & offset) noexcept
{
  Pose result;
  result.position = pose.position + offset.head<3>();
  result.rotation = exp_rotation(offset.tail<3>()) * pose.rotation;
  result.rotation.normalize();
  return result;
}

/// When the newest target of one kind arrived.
struct TargetClock
{
  int64_t arrived_ns = 0;
  bool is_fresh = false;

  /// True at the tick at which the last target has become too old.
  bool grow_stale(int64_t now_ns, double timeout_s) noexcept
  {
    if (!is_fresh || seconds_since(arrived_ns, now_ns) <= timeout_s) return false;
    is_fresh = false;
    return true;
  }

  /// How far beyond its target a path leads: to where the motion will be when it ends there.
  static double ahead_s(
    int64_t stamp_ns, int64_t now_ns, double duration_s, const TargetConfig & config) noexcept
  {
    return std::clamp(
      seconds_since(stamp_ns, now_ns) + duration_s, 0.0, config.max_extrapolation_s);
  }

  /// Whether the next target is so late that the motion should end.
  bool is_late(
    double time_s, double duration_s, double period_s, const TargetConfig & config) const noexcept
  {
    const double coast_s = std::min(0.5 * period_s, config.max_extrapolation_s);
    return !is_fresh || time_s > duration_s + coast_s;
  }
};

/// Leads the pose. Time is counted so that a path begins where the tick before left the reference,
/// and moves on in the same tick.
class PoseLeader
{
public:
  explicit PoseLeader(const TargetConfig & config) noexcept
  : config_(config),
    bounds_{
      config.max_speed_m_s, config.max_speed_rad_s, config.max_acceleration_m_s2,
      config.max_acceleration_rad_s2}
  {
    estimate_.clear(Vector6::Zero());
  }

  void begin(const Pose & pose, const Vector6 & twist) noexcept
  {
    motion_.pose = hold_pose_ = pose;
    motion_.twist = twist;
    motion_.acceleration.setZero();
    clock_ = TargetClock{};
    estimate_.clear(Vector6::Zero());
    is_holding_ = twist.isZero(0.0);
    hold_offset_.setZero();
    hold_offset_rate_.setZero();
  }

  void take(const PoseTarget & target, int64_t now_ns) noexcept
  {
    if (!estimate_.is_in_order(target.stamp_ns)) return;
    Pose point;
    point.position = Eigen::Map<const Eigen::Vector3d>(target.position);
    point.rotation.coeffs() = Eigen::Map<const Eigen::Vector4d>(target.quat_xyzw);
    point.rotation.normalize();
    const Vector6 given = Eigen::Map<const Vector6>(target.twist);
    estimate_.add(
      target.stamp_ns, point, target.has_twist != 0 ? &given : nullptr, config_.timeout_s, bounds_);
    clock_ = {now_ns, true};
    is_holding_ = false;
    const double least_s = std::max(estimate_.period_s(), kShortestPath_s);
    const double ahead_s = TargetClock::ahead_s(target.stamp_ns, now_ns, least_s, config_);
    const Vector6 turn = ahead_s * estimate_.acceleration();
    const Pose goal = moved(point, ahead_s * (estimate_.rate() + 0.5 * turn));
    Vector6 rate = estimate_.rate() + turn;
    rate /= std::max(1.0, bounds_.speed(rate));
    const double duration_s = path_duration_s<Vector6>(
      pose_error(motion_.pose, goal), motion_.twist, rate, least_s, bounds_);
    path_ = PosePath(motion_.pose, motion_.twist, goal, rate, duration_s);
  }

  void advance(int64_t now_ns, double dt_s, const Pose & measured) noexcept
  {
    if (is_holding_)
    {
      hold(dt_s);
      return;
    }
    const double time_s = seconds_since(clock_.arrived_ns, now_ns) + dt_s;
    if (clock_.is_fresh && time_s <= path_.duration_s())
    {
      motion_ = path_.at(time_s);
      if (!config_.acceleration_feed_forward) motion_.acceleration.setZero();
      return;
    }
    motion_.acceleration.setZero();
    if (clock_.is_late(time_s, path_.duration_s(), estimate_.period_s(), config_))
    {
      slow_down(motion_.twist.head<3>(), config_.brake_m_s2 * dt_s);
      slow_down(motion_.twist.tail<3>(), config_.brake_rad_s2 * dt_s);
    }
    motion_.pose = moved(motion_.pose, motion_.twist * dt_s);
    if (!clock_.is_fresh && motion_.twist.isZero(0.0)) begin_hold(measured);
  }

  TargetClock & clock() noexcept { return clock_; }
  const TargetClock & clock() const noexcept { return clock_; }
  const Motion & motion() const noexcept { return motion_; }
  double period_s() const noexcept { return estimate_.period_s(); }
  bool is_holding() const noexcept { return is_holding_; }

private:
  void begin_hold(const Pose & measured) noexcept
  {
    // Begin the hold where the arm is, reached by fading: no wind-up against a contact.
    is_holding_ = true;
    hold_pose_ = measured;
    hold_offset_ = pose_error(measured, motion_.pose);
    hold_offset_rate_.setZero();
  }

  void hold(double dt_s) noexcept
  {
    const double omega = 1.0 / config_.hold_time_constant_s;
    const double decay = std::exp(-omega * dt_s);
    const Vector6 slope = hold_offset_rate_ + omega * hold_offset_;
    hold_offset_ = (hold_offset_ + slope * dt_s) * decay;
    hold_offset_rate_ = (hold_offset_rate_ - omega * slope * dt_s) * decay;
    motion_.pose = moved(hold_pose_, hold_offset_);
    motion_.twist.setZero();
    motion_.acceleration.setZero();
  }

  const TargetConfig & config_;
  PoseBounds bounds_;
  StreamEstimate<Pose, Vector6, PoseBounds> estimate_;
  TargetClock clock_;
  PosePath path_;
  Motion motion_;
  bool is_holding_ = true;
  Pose hold_pose_;
  Vector6 hold_offset_ = Vector6::Zero();
  Vector6 hold_offset_rate_ = Vector6::Zero();
};

/// Leads the joints, each by a cubic that meets the velocities at its ends.
class JointLeader
{
public:
  JointLeader(const TargetConfig & config, const TargetNames & names) noexcept
  : config_(config),
    names_(names),
    bounds_{config.max_joint_speed_rad_s, config.max_joint_acceleration_rad_s2}
  {
    dq_.setZero(names.q_min.size());
    start_q_ = step_ = v0_ = v1_ = from_ = dq_;
    estimate_.clear(dq_);
  }

  /// `q`: where to begin if there is no joint reference yet.
  void begin(const JointVector & q) noexcept
  {
    start_q_ = q;
    clock_ = TargetClock{};
    dq_.setZero();
    estimate_.clear(dq_);
  }

  void forget() noexcept
  {
    q_.resize(0);
    dq_.setZero();
    clock_ = TargetClock{};
  }

  void take(const JointTarget & target, int64_t now_ns) noexcept
  {
    if (!estimate_.is_in_order(target.stamp_ns)) return;
    const auto n = dq_.size();
    const JointVector point = Eigen::Map<const Eigen::VectorXd>(target.q, n);
    const JointVector given = Eigen::Map<const Eigen::VectorXd>(target.dq, n);
    estimate_.add(
      target.stamp_ns, point, target.has_dq != 0 ? &given : nullptr, config_.timeout_s, bounds_);
    if (q_.size() == 0) q_ = start_q_;
    clock_ = {now_ns, true};
    const double least_s = std::max(estimate_.period_s(), kShortestPath_s);
    const double ahead_s = TargetClock::ahead_s(target.stamp_ns, now_ns, least_s, config_);
    const JointVector turn = ahead_s * estimate_.acceleration();
    v1_ = estimate_.rate();
    v1_ += turn;
    v1_ /= std::max(1.0, bounds_.speed(v1_));
    v0_ = dq_;
    from_ = q_;
    step_ = (point + ahead_s * (estimate_.rate() + 0.5 * turn))
              .cwiseMax(names_.q_min)
              .cwiseMin(names_.q_max) -
            q_;
    duration_s_ = path_duration_s<JointVector>(step_, v0_, v1_, least_s, bounds_);
  }

  void advance(int64_t now_ns, double dt_s) noexcept
  {
    if (q_.size() == 0) return;
    const double time_s = seconds_since(clock_.arrived_ns, now_ns) + dt_s;
    if (clock_.is_fresh && time_s <= duration_s_)
    {
      const HermiteWeights w(time_s / duration_s_, duration_s_);
      q_ = from_ + w.x1 * step_ + w.v0 * v0_ + w.v1 * v1_;
      dq_ = w.dx1 * step_ + w.dv0 * v0_ + w.dv1 * v1_;
      return;
    }
    if (clock_.is_late(time_s, duration_s_, estimate_.period_s(), config_))
    {
      const double largest = dq_.cwiseAbs().maxCoeff();
      const double step = config_.max_joint_acceleration_rad_s2 * dt_s;
      dq_ *= largest <= step ? 0.0 : 1.0 - step / largest;
    }
    q_ = (q_ + dq_ * dt_s).cwiseMax(names_.q_min).cwiseMin(names_.q_max);
  }

  TargetClock & clock() noexcept { return clock_; }
  const TargetClock & clock() const noexcept { return clock_; }
  const JointVector & q() const noexcept { return q_; }
  const JointVector & dq() const noexcept { return dq_; }

private:
  const TargetConfig & config_;
  const TargetNames & names_;
  JointBounds bounds_;
  StreamEstimate<JointVector, JointVector, JointBounds> estimate_;
  TargetClock clock_;
  JointVector q_;  // empty until the first target
  JointVector dq_, start_q_, from_, step_, v0_, v1_;
  double duration_s_ = 1.0;
};

}  // namespace vla_ros_core
