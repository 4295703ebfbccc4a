// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_core/segment_inbox.hpp"

#include <cstddef>

namespace vla_ros_core
{

SegmentInbox::SegmentInbox(
  const AuthorityConfig & config, const std::string & suffix, const SegmentLimits & limits,
  SegmentCounters & counters)
: limits_(limits), counters_(counters)
{
  if (config.shm_prefix.empty()) return;
  for (const std::string & source : config.sources)
  {
    sources_.push_back({ShmRing::prepare(
      config.shm_prefix + ".segment." + source + suffix, kSegmentSlots, sizeof(SegmentRecord), 0)});
  }
  forget();
}

void SegmentInbox::forget() noexcept
{
  for (Source & source : sources_) source.last_seq = source.ring.head();
}

Rejection SegmentInbox::check(uint64_t bytes, uint32_t epoch, int64_t now_ns) const noexcept
{
  const uint64_t head = offsetof(SegmentRecord, rows);
  if (bytes < head || incoming_.n_rows > kMaxRows) return Rejection::kRowCount;
  if (bytes < head + incoming_.n_rows * sizeof(SegmentRow)) return Rejection::kRowCount;
  const Rejection reason = check_segment(incoming_, now_ns, limits_);
  if (reason != Rejection::kNone) return reason;
  return incoming_.epoch == epoch ? Rejection::kNone : Rejection::kEpoch;
}

void SegmentInbox::take(
  const Authority & authority, int64_t now_ns, ReferenceGenerator & reference) noexcept
{
  if (!authority.takes_segments()) return;
  reference.set_instruction(authority.instruction_id(), now_ns);
  Source & from = sources_[static_cast<size_t>(authority.holder())];
  if (from.ring.head() == from.last_seq) return;
  LatencyStamp stamp{};
  uint64_t bytes = 0;
  const uint64_t seq = from.ring.read_latest(&stamp, &incoming_, sizeof(incoming_), &bytes);
  if (seq == 0) return;
  from.last_seq = seq;
  end_with_stamp(incoming_, stamp);
  Rejection reason = check(bytes, authority.epoch(), now_ns);
  if (reason == Rejection::kNone && !reference.is_of_instruction(stamp))
  {
    reason = Rejection::kInstruction;
  }
  if (reason != Rejection::kNone)
  {
    counters_.rejected[static_cast<size_t>(reason)].fetch_add(1, std::memory_order_relaxed);
    return;
  }
  reference.accept(incoming_, seq, stamp, now_ns);
  counters_.accepted.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace vla_ros_core
