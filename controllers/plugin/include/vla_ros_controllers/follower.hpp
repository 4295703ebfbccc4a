// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "vla_ros_core/authority.hpp"
#include "vla_ros_core/law.hpp"
#include "vla_ros_core/reference.hpp"
#include "vla_ros_core/segment_inbox.hpp"
#include "vla_ros_core/target.hpp"

namespace vla_ros_controllers
{

struct FollowerConfig
{
  vla_ros_core::AuthorityConfig authority;
  vla_ros_core::SegmentLimits segment_limits;
  vla_ros_core::ReferenceConfig reference;
  vla_ros_core::TargetConfig target;
};

/// What the arm is to do now: segments while a lease is in force, else targets from topics, else a
/// compliant hold. The parts are those of the control host, joined by its rules.
///
/// Real-time: begin(), update() and the getters are noexcept and do not allocate.
class Follower
{
public:
  /// Throws vla_ros_core::Error naming the setting and its range.
  Follower(const FollowerConfig & config, const vla_ros_core::TargetNames & names);

  /// Rest at `pose` and `q`; what was sent before is forgotten.
  void begin(const vla_ros_core::Pose & pose, const vla_ros_core::JointVector & q) noexcept;

  /// Advance to `now_ns`. `measured` is where the arm is: a hold begins there. `posture` is what
  /// q() is until a joint target arrives.
  void update(
    int64_t now_ns, double dt_s, const vla_ros_core::Pose & measured,
    const vla_ros_core::JointVector & posture) noexcept;

  /// Drop what is being followed and brake.
  void release() noexcept;

  vla_ros_core::Mode mode() const noexcept;
  /// Pose, twist, wrench and joints to follow; valid after begin() or update().
  const vla_ros_core::LawReference & reference() const noexcept { return output_; }
  uint64_t expired_brakes() const noexcept
  {
    return generator_.expired_brakes() + stream_.stale_brakes();
  }
  uint64_t rows_after_expiry() const noexcept { return generator_.rows_after_expiry(); }

  vla_ros_core::Authority & authority() noexcept { return authority_; }
  const vla_ros_core::Authority & authority() const noexcept { return authority_; }
  const vla_ros_core::SegmentCounters & segment_counters() const noexcept { return counters_; }
  vla_ros_core::TargetStream & targets() noexcept { return stream_; }

private:
  void fill(
    const vla_ros_core::Pose & measured, const vla_ros_core::JointVector & posture) noexcept;

  vla_ros_core::Authority authority_;
  vla_ros_core::SegmentCounters counters_;
  vla_ros_core::SegmentInbox segments_;
  vla_ros_core::ReferenceGenerator generator_;
  vla_ros_core::TargetStream stream_;
  vla_ros_core::LawReference output_;
  bool is_led_by_targets_ = false;
};

}  // namespace vla_ros_controllers
