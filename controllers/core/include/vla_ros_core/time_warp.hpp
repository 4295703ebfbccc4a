// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>

namespace vla_ros_core
{

/// Row time of a segment that slows down between its soft and its hard expiry.
///
/// Rows are passed at the rate 1 until `soft_ns`, then at 1 - (now - soft) / (hard - soft): the
/// path stays the same, the speed along it falls continuously to 0 at `hard_ns`. Row time lags
/// behind real time by the integral of what is missing. It is a function of the instant, not of the
/// ticks, so that skipped ticks change nothing. A soft expiry of 0, or one that is not before the
/// hard one, means none. Real-time: noexcept, no allocation.
class TimeWarp
{
public:
  TimeWarp() = default;

  /// Begin at `now_ns` with row time `now_ns - lag_ns`.
  TimeWarp(int64_t soft_ns, int64_t hard_ns, int64_t now_ns, int64_t lag_ns) noexcept
  : soft_ns_(soft_ns),
    ramp_ns_(soft_ns > 0 && soft_ns < hard_ns ? static_cast<double>(hard_ns - soft_ns) : 0.0),
    lag_ns_(lag_ns)
  {
    begin_ns_ = aged_ns(now_ns);
  }

  /// Row time passed per real time, 1 to 0.
  double rate(int64_t now_ns) const noexcept
  {
    return ramp_ns_ > 0.0 ? std::max(0.0, 1.0 - aged_ns(now_ns) / ramp_ns_) : 1.0;
  }

  /// Change of the rate [1/s].
  double rate_change(int64_t now_ns) const noexcept
  {
    return ramp_ns_ > 0.0 && now_ns > soft_ns_ && rate(now_ns) > 0.0 ? -1e9 / ramp_ns_ : 0.0;
  }

  /// Time of the rows that `now_ns` executes; never later than `now_ns`.
  int64_t row_time_ns(int64_t now_ns) const noexcept { return now_ns - lag_at(now_ns); }

  int64_t lag_at(int64_t now_ns) const noexcept
  {
    if (ramp_ns_ <= 0.0) return lag_ns_;
    const double aged = aged_ns(now_ns);
    const double grown = 0.5 * (aged - begin_ns_) * ((aged + begin_ns_) / ramp_ns_);
    return lag_ns_ + static_cast<int64_t>(std::max(0.0, grown));
  }

private:
  /// How far into the ramp [ns], 0 before it, at most its length.
  double aged_ns(int64_t now_ns) const noexcept
  {
    if (ramp_ns_ <= 0.0 || now_ns <= soft_ns_) return 0.0;
    return std::min(static_cast<double>(now_ns - soft_ns_), ramp_ns_);
  }

  int64_t soft_ns_ = 0;
  double ramp_ns_ = 0.0;  // 0: no ramp
  double begin_ns_ = 0.0;
  int64_t lag_ns_ = 0;
};

}  // namespace vla_ros_core
