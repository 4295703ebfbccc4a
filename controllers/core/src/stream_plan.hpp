// SPDX-License-Identifier: Apache-2.0
// What a stream of single targets says about its motion, and how fast a path may get there.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>

#include "vla_ros_core/robot_model.hpp"

namespace vla_ros_core
{

/// How much of speed and acceleration a rate uses up; 1: all of it.
struct PoseBounds
{
  double speed_m_s, speed_rad_s, acceleration_m_s2, acceleration_rad_s2;

  double speed(const Vector6 & v) const noexcept
  {
    return std::max(v.head<3>().norm() / speed_m_s, v.tail<3>().norm() / speed_rad_s);
  }
  double acceleration(const Vector6 & a) const noexcept
  {
    return std::max(
      a.head<3>().norm() / acceleration_m_s2, a.tail<3>().norm() / acceleration_rad_s2);
  }
};

struct JointBounds
{
  double speed_rad_s, acceleration_rad_s2;

  double speed(const JointVector & v) const noexcept
  {
    return v.cwiseAbs().maxCoeff() / speed_rad_s;
  }
  double acceleration(const JointVector & a) const noexcept
  {
    return a.cwiseAbs().maxCoeff() / acceleration_rad_s2;
  }
};

inline Vector6 difference(const Pose & from, const Pose & to) noexcept
{
  return pose_error(from, to);
}

inline JointVector difference(const JointVector & from, const JointVector & to) noexcept
{
  return to - from;
}

/// Shortest time, at least `least_s`, in which a cubic over `step` from velocity `v0` to `v1` stays
/// within the bounds. Bounded number of trials; each is 15 % longer than the last.
template <typename Vector, typename Bounds>
double path_duration_s(
  const Vector & step, const Vector & v0, const Vector & v1, double least_s,
  const Bounds & bounds) noexcept
{
  double t = least_s;
  for (int i = 0; i < 60; ++i, t *= 1.15)
  {
    Vector start = step;  // sized before use, for joint vectors
    start = (6.0 / t * step - 4.0 * v0 - 2.0 * v1) / t;
    Vector end = step;
    end = (-6.0 / t * step + 2.0 * v0 + 4.0 * v1) / t;
    Vector middle = step;
    middle = 1.5 / t * step - 0.25 * (v0 + v1);
    if (
      bounds.acceleration(start) <= 1.0 && bounds.acceleration(end) <= 1.0 &&
      bounds.speed(middle) <= 1.0)
    {
      break;
    }
  }
  return t;
}

/// Period and velocity of a stream of targets.
template <typename Point, typename Vector, typename Bounds>
class StreamEstimate
{
  static constexpr size_t kHistory = 8;
  static constexpr double kUsualPeriod_s = 0.02;
  static constexpr double kShortestPeriod_s = 0.004;
  static constexpr double kLongestPeriod_s = 0.5;
  // Targets closer than this in time are not compared: noise over a short time looks fast.
  static constexpr double kWindow_s = 0.02;

public:
  void clear(const Vector & zero) noexcept
  {
    count_ = 0;
    period_s_ = kUsualPeriod_s;
    rate_ = mean_rate_ = change_ = last_change_ = zero;
    mean_stamp_ns_ = 0;
  }

  bool is_in_order(int64_t stamp_ns) const noexcept
  {
    return count_ == 0 || stamp_ns >= entry(0).stamp_ns;
  }

  /// Take a target in. `rate`: its own velocity, or null to estimate it.
  void add(
    int64_t stamp_ns, const Point & point, const Vector * rate, double gap_s,
    const Bounds & bounds) noexcept
  {
    if (count_ > 0 && stamp_ns == entry(0).stamp_ns)
    {
      history_[newest_].point = point;  // another word about the same instant
      return;
    }
    if (count_ > 0 && seconds(entry(0).stamp_ns, stamp_ns) > gap_s) clear(Vector(0.0 * rate_));
    if (count_ > 0)
    {
      const double dt_s = seconds(entry(0).stamp_ns, stamp_ns);
      const double wanted = std::clamp(dt_s, kShortestPeriod_s, kLongestPeriod_s);
      period_s_ = count_ == 1 ? wanted : period_s_ + 0.2 * (wanted - period_s_);
      if (rate == nullptr) estimate(stamp_ns, point, dt_s, bounds);
    }
    if (rate != nullptr)
    {
      if (count_ > 0) follow_change(stamp_ns, *rate, bounds);
      mean_rate_ = rate_ = *rate;
      mean_stamp_ns_ = stamp_ns;
    }
    newest_ = (newest_ + 1) % kHistory;
    history_[newest_] = {stamp_ns, point};
    count_ = std::min(count_ + 1, kHistory);
  }

  double period_s() const noexcept { return period_s_; }
  /// Velocity at the newest target.
  const Vector & rate() const noexcept { return rate_; }
  /// Its change, as far as the last two changes agree.
  const Vector & acceleration() const noexcept { return change_; }

private:
  struct Entry
  {
    int64_t stamp_ns = 0;
    Point point;
  };

  static double seconds(int64_t from_ns, int64_t to_ns) noexcept
  {
    return 1e-9 * static_cast<double>(to_ns - from_ns);
  }

  const Entry & entry(size_t age) const noexcept
  {
    return history_[(newest_ + kHistory - age) % kHistory];
  }

  void estimate(int64_t stamp_ns, const Point & point, double dt_s, const Bounds & bounds) noexcept
  {
    size_t age = 0;
    while (age + 1 < count_ && seconds(entry(age).stamp_ns, stamp_ns) < 0.9 * kWindow_s) ++age;
    const double span_s = std::max(seconds(entry(age).stamp_ns, stamp_ns), kShortestPeriod_s);
    const Vector seen = difference(entry(age).point, point) / span_s;
    // A jump is no motion: what no arm could speed up to is believed only bit by bit.
    Vector mean = mean_rate_;
    const Vector step = seen - mean_rate_;
    const double excess = bounds.acceleration(step) / std::max(dt_s, kShortestPeriod_s);
    mean += step / std::max(1.0, excess);
    mean /= std::max(1.0, bounds.speed(mean));
    const auto mean_ns = stamp_ns - static_cast<int64_t>(0.5e9 * span_s);
    if (count_ > 1) follow_change(mean_ns, mean, bounds);
    mean_rate_ = mean;
    mean_stamp_ns_ = mean_ns;
    rate_ = mean + 0.5 * span_s * change_;
    rate_ /= std::max(1.0, bounds.speed(rate_));
  }

  /// Of two successive changes of velocity the smaller counts, and none if they disagree in sign:
  /// a steady turn is followed without delay, a jump or noise is not continued.
  void follow_change(int64_t stamp_ns, const Vector & rate, const Bounds & bounds) noexcept
  {
    const double dt_s = std::max(seconds(mean_stamp_ns_, stamp_ns), kShortestPeriod_s);
    Vector seen = (rate - mean_rate_) / dt_s;
    seen /= std::max(1.0, bounds.acceleration(seen));
    for (Eigen::Index i = 0; i < seen.size(); ++i)
    {
      const bool agree = seen[i] * last_change_[i] > 0.0;
      change_[i] = !agree                                          ? 0.0
                   : std::abs(seen[i]) < std::abs(last_change_[i]) ? seen[i]
                                                                   : last_change_[i];
    }
    last_change_ = seen;
  }

  std::array<Entry, kHistory> history_{};
  size_t newest_ = 0;
  size_t count_ = 0;
  double period_s_ = kUsualPeriod_s;
  Vector rate_;
  Vector mean_rate_;  // over the last window, that is, at its middle
  int64_t mean_stamp_ns_ = 0;
  Vector change_;
  Vector last_change_;
};

}  // namespace vla_ros_core
