// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "vla_ros_core/authority.hpp"
#include "vla_ros_core/reference.hpp"
#include "vla_ros_core/shm_ring.hpp"
#include "vla_ros_core/time_index.hpp"

namespace vla_ros_core
{

inline constexpr uint32_t kSegmentSlots = 8;  ///< of the rings `<prefix>.segment.<source>`

/// Numbers for diagnostics. Thread-safety: written by the loop, read by anyone.
struct SegmentCounters
{
  std::atomic<uint64_t> accepted{0};
  std::array<std::atomic<uint64_t>, static_cast<size_t>(Rejection::kCount)> rejected{};
};

/// Segments of one arm, from a ring per source. A segment that is refused is counted and moves
/// nothing. Real-time: everything but the constructor is noexcept and does not allocate.
class SegmentInbox
{
public:
  /// Map the rings, making those that do not exist yet; `suffix` is appended to their names. What
  /// was sent before is not for us. Throws Error.
  SegmentInbox(
    const AuthorityConfig & config, const std::string & suffix, const SegmentLimits & limits,
    SegmentCounters & counters);

  /// What was sent before this moment is not for us.
  void forget() noexcept;

  /// Give `reference` the newest segment of whoever leads, if it has come since the last call.
  void take(const Authority & authority, int64_t now_ns, ReferenceGenerator & reference) noexcept;

private:
  struct Source
  {
    ShmRing ring;
    uint64_t last_seq = 0;
  };

  Rejection check(uint64_t bytes, uint32_t epoch, int64_t now_ns) const noexcept;

  SegmentLimits limits_;
  SegmentCounters & counters_;
  std::vector<Source> sources_;
  SegmentRecord incoming_{};
};

}  // namespace vla_ros_core
