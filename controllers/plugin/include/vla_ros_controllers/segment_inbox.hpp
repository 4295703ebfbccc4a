// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "vla_ros_core/reference.hpp"
#include "vla_ros_core/shm_ring.hpp"
#include "vla_ros_core/time_index.hpp"

namespace vla_ros_controllers
{

/// Where segments come from.
struct SegmentInboxConfig
{
  std::string shm_prefix;            ///< of the rings; empty: no segments, no lease, no stop flag
  std::vector<std::string> sources;  ///< who may send segments; one ring each
  vla_ros_core::SegmentLimits limits;
};

/// Numbers for diagnostics. Thread-safety: written by the control loop, read by anyone.
struct SegmentCounters
{
  std::atomic<uint64_t> accepted{0};
  std::atomic<uint64_t> stops{0};
  std::array<std::atomic<uint64_t>, static_cast<size_t>(vla_ros_core::Rejection::kCount)>
    rejected{};
};

/// Stop, lease and segments, in this order, as the control host takes them: from shared memory,
/// wait-free, with the same rings, checks and rules of authority.
///
/// Real-time: what the loop calls is noexcept, takes no lock and does not allocate.
class SegmentInbox
{
public:
  /// Map the rings, making those that do not exist yet. Throws vla_ros_core::Error.
  explicit SegmentInbox(const SegmentInboxConfig & config);

  /// What was sent before this moment is not for us. Called before the loop runs.
  void forget() noexcept;

  /// Take stop and lease: true if whatever is being followed must be dropped, because of a stop or
  /// because authority has changed.
  bool poll_authority(int64_t now_ns) noexcept;
  /// Give `reference` the newest segment of whoever holds authority.
  void poll_segment(int64_t now_ns, vla_ros_core::ReferenceGenerator & reference) noexcept;

  /// Stop and resume from the ROS side, any thread; the shared flag works without it.
  void request_stop() noexcept { stop_requested_.store(true); }
  void request_resume() noexcept { resume_requested_.store(true); }

  bool is_stopped() const noexcept { return stopped_; }
  /// True while a lease is in force; targets from topics are then not for us.
  bool has_authority() const noexcept { return authority_ != nullptr; }
  uint32_t epoch() const noexcept { return epoch_; }
  const char * source() const noexcept { return authority_ ? authority_->name.c_str() : ""; }
  const SegmentCounters & counters() const noexcept { return counters_; }

private:
  struct Source
  {
    std::string name;
    vla_ros_core::ShmRing ring;
    uint64_t last_seq = 0;
  };

  bool take_stop() noexcept;
  bool take_lease(int64_t now_ns) noexcept;

  vla_ros_core::SegmentLimits limits_;
  std::vector<Source> sources_;
  std::unique_ptr<vla_ros_core::ShmRing> lease_ring_;
  std::unique_ptr<vla_ros_core::StopFlag> stop_flag_;
  vla_ros_core::LeaseRecord lease_{};
  vla_ros_core::SegmentRecord incoming_{};
  Source * authority_ = nullptr;
  uint32_t epoch_ = 0;
  uint64_t stops_seen_ = 0;
  bool stopped_ = false;
  std::atomic<bool> stop_requested_{false};
  std::atomic<bool> resume_requested_{false};
  SegmentCounters counters_;
};

}  // namespace vla_ros_controllers
