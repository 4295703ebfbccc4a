// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_controllers/segment_inbox.hpp"

#include <cstddef>
#include <cstring>

#include "vla_ros_core/error.hpp"

namespace vla_ros_controllers
{

using vla_ros_core::LeaseRecord;
using vla_ros_core::Rejection;
using vla_ros_core::SegmentRecord;
using vla_ros_core::SegmentRow;
using vla_ros_core::ShmRing;

namespace
{

// Geometry of the rings; writers and the control host use the same.
constexpr uint32_t kSegmentSlots = 8;
constexpr uint32_t kLeaseSlots = 4;

/// True if `bytes` can hold the rows that the record announces.
bool is_whole(const SegmentRecord & segment, uint64_t bytes) noexcept
{
  const uint64_t head = offsetof(SegmentRecord, rows);
  return bytes >= head && segment.n_rows <= vla_ros_core::kMaxRows &&
         bytes >= head + segment.n_rows * sizeof(SegmentRow);
}

}  // namespace

SegmentInbox::SegmentInbox(const SegmentInboxConfig & config) : limits_(config.limits)
{
  const std::string & prefix = config.shm_prefix;
  if (prefix.empty()) return;
  stop_flag_ = std::make_unique<vla_ros_core::StopFlag>(prefix + ".stop");
  lease_ring_ = std::make_unique<ShmRing>(
    ShmRing::prepare(prefix + ".lease", kLeaseSlots, sizeof(LeaseRecord), 0));
  for (const std::string & source : config.sources)
  {
    if (source.empty() || source.size() >= vla_ros_core::kNameLength)
    {
      throw vla_ros_core::Error("a source name needs 1 to 31 characters, got '" + source + "'");
    }
    sources_.push_back(
      {source,
       ShmRing::prepare(prefix + ".segment." + source, kSegmentSlots, sizeof(SegmentRecord), 0)});
  }
  forget();
}

void SegmentInbox::forget() noexcept
{
  for (Source & source : sources_) source.last_seq = source.ring.head();
  if (stop_flag_) stops_seen_ = stop_flag_->count();
  authority_ = nullptr;
  epoch_ = 0;
}

bool SegmentInbox::poll_authority(int64_t now_ns) noexcept
{
  const bool is_stop = take_stop();
  const bool is_change = lease_ring_ && take_lease(now_ns);
  return is_stop || is_change;
}

bool SegmentInbox::take_stop() noexcept
{
  const uint64_t count = stop_flag_ ? stop_flag_->count() : stops_seen_;
  if (stop_requested_.exchange(false) || count != stops_seen_)
  {
    stops_seen_ = count;
    stopped_ = true;
    counters_.stops.fetch_add(1, std::memory_order_relaxed);
    // A stop wins over a resume that arrived in the same tick.
    resume_requested_.store(false);
    return true;
  }
  if (resume_requested_.exchange(false)) stopped_ = false;
  return false;
}

bool SegmentInbox::take_lease(int64_t now_ns) noexcept
{
  LeaseRecord lease{};
  if (lease_ring_->read_latest(nullptr, &lease, sizeof(lease), nullptr) != 0) lease_ = lease;
  Source * holder = nullptr;
  if (lease_.expiry_ns > now_ns)
  {
    for (Source & source : sources_)
    {
      if (std::strncmp(source.name.c_str(), lease_.source, vla_ros_core::kNameLength) == 0)
      {
        holder = &source;
      }
    }
  }
  const uint32_t epoch = holder == nullptr ? 0 : lease_.epoch;
  if (holder == authority_ && epoch == epoch_) return false;
  authority_ = holder;
  epoch_ = epoch;
  return true;
}

void SegmentInbox::poll_segment(
  int64_t now_ns, vla_ros_core::ReferenceGenerator & reference) noexcept
{
  if (authority_ == nullptr || stopped_) return;
  if (authority_->ring.head() == authority_->last_seq) return;
  vla_ros_core::LatencyStamp stamp{};
  uint64_t bytes = 0;
  const uint64_t seq = authority_->ring.read_latest(&stamp, &incoming_, sizeof(incoming_), &bytes);
  if (seq == 0) return;
  authority_->last_seq = seq;
  Rejection reason = Rejection::kRowCount;
  if (is_whole(incoming_, bytes)) reason = check_segment(incoming_, now_ns, limits_);
  if (reason == Rejection::kNone && incoming_.epoch != epoch_) reason = Rejection::kEpoch;
  if (reason != Rejection::kNone)
  {
    counters_.rejected[static_cast<size_t>(reason)].fetch_add(1, std::memory_order_relaxed);
    return;
  }
  reference.accept(incoming_, seq, stamp, now_ns);
  counters_.accepted.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace vla_ros_controllers
