// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "vla_ros_core/shm_ring.hpp"
#include "vla_ros_core/time_index.hpp"

namespace vla_ros_core
{

inline constexpr uint32_t kLeaseSlots = 4;  ///< of the ring `<prefix>.lease`

/// Who may lead, and where leases, segments and stops come from.
struct AuthorityConfig
{
  std::string shm_prefix;            ///< of the rings; empty: no segments, no lease, no stop flag
  std::vector<std::string> sources;  ///< who may send segments; one ring each
  std::string target_source;         ///< what plain targets are called in leases; empty: nothing
  bool targets_need_lease = true;    ///< false: they lead whenever nobody else holds a lease
};

/// The rules of stop and lease, for every loop that drives an arm: a stop is taken at the next tick
/// and stays until resumed; one source at a time leads, under the epoch of its lease.
///
/// Thread-safety: request_*() and raise_stop_flag() from any thread, the rest by the loop.
/// Real-time: everything but the constructor is noexcept, takes no lock and does not allocate.
class Authority
{
public:
  /// Holders that are no index of a source.
  static constexpr int kNobody = -1;
  static constexpr int kTargets = -2;

  /// Map lease and flag, making those that do not exist yet. Throws Error, also on a source name of
  /// a wrong length. A stop from before is not for us.
  explicit Authority(const AuthorityConfig & config);

  /// Stops and leases from before this moment are not for us; a stop in force stays.
  void forget() noexcept;

  /// Take stop, then lease: true if whatever is being followed must be dropped, because of a stop
  /// or because holder or epoch has changed.
  bool take(int64_t now_ns) noexcept;

  /// Stop this loop, and let it go on; a stop outranks a resume of the same tick.
  void request_stop() noexcept { stop_requested_.store(true); }
  void request_resume() noexcept { resume_requested_.store(true); }
  /// Stop all loops of this prefix; without a prefix nothing.
  void raise_stop_flag() noexcept;

  bool is_stopped() const noexcept { return stopped_; }
  /// Index of a source, kNobody or kTargets.
  int holder() const noexcept { return holder_; }
  /// Whether holder() is a source whose segments may be followed now.
  bool takes_segments() const noexcept { return holder_ >= 0 && !stopped_; }
  /// Why plain targets are refused now; kNone if they lead.
  Rejection target_gate() const noexcept;
  /// Of the lease in force, 0 without one.
  uint32_t epoch() const noexcept { return epoch_; }
  /// That segments must be made for, as the lease in force says; 0 for any.
  uint32_t instruction_id() const noexcept { return instruction_id_; }
  /// Name of the holder, empty for nobody.
  const char * source() const noexcept;

  uint64_t stops() const noexcept { return stops_; }  ///< taken so far
  uint64_t stop_count() const noexcept { return flag_seen_; }
  /// When the flag was raised last, and the tick at which a stop was taken last [ns].
  int64_t stop_requested_ns() const noexcept;
  int64_t stop_received_ns() const noexcept { return stop_received_ns_; }

private:
  bool take_stop(int64_t now_ns) noexcept;
  bool take_lease(int64_t now_ns) noexcept;
  int named_in(const LeaseRecord & lease) const noexcept;
  int holder_without_lease() const noexcept;

  AuthorityConfig config_;
  std::optional<ShmRing> lease_ring_;
  std::optional<StopFlag> stop_flag_;
  LeaseRecord lease_{};
  int holder_ = kNobody;
  uint32_t epoch_ = 0;
  uint32_t instruction_id_ = 0;
  uint64_t flag_seen_ = 0;
  uint64_t stops_ = 0;
  int64_t stop_received_ns_ = 0;
  bool stopped_ = false;
  std::atomic<bool> stop_requested_{false};
  std::atomic<bool> resume_requested_{false};
};

}  // namespace vla_ros_core
