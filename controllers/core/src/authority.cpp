// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_core/authority.hpp"

#include <cstring>

#include "vla_ros_core/error.hpp"

namespace vla_ros_core
{

namespace
{

void check_source(const std::string & source)
{
  if (source.empty() || source.size() >= kNameLength)
  {
    throw Error("a source name needs 1 to 31 characters, got '" + source + "'");
  }
}

bool is_name(const std::string & name, const LeaseRecord & lease) noexcept
{
  return std::strncmp(name.c_str(), lease.source, kNameLength) == 0;
}

}  // namespace

Authority::Authority(const AuthorityConfig & config) : config_(config)
{
  for (const std::string & source : config_.sources) check_source(source);
  if (!config_.target_source.empty()) check_source(config_.target_source);
  if (!config_.shm_prefix.empty())
  {
    lease_ring_.emplace(
      ShmRing::prepare(config_.shm_prefix + ".lease", kLeaseSlots, sizeof(LeaseRecord), 0));
    stop_flag_.emplace(config_.shm_prefix + ".stop");
  }
  forget();
}

void Authority::forget() noexcept
{
  if (stop_flag_) flag_seen_ = stop_flag_->count();
  holder_ = holder_without_lease();
  epoch_ = 0;
  instruction_id_ = 0;
}

void Authority::raise_stop_flag() noexcept
{
  if (stop_flag_) stop_flag_->request();
}

int64_t Authority::stop_requested_ns() const noexcept
{
  return stop_flag_ ? stop_flag_->requested_ns() : 0;
}

bool Authority::take(int64_t now_ns) noexcept
{
  const bool is_stop = take_stop(now_ns);
  const bool is_change = take_lease(now_ns);
  return is_stop || is_change;
}

bool Authority::take_stop(int64_t now_ns) noexcept
{
  const uint64_t count = stop_flag_ ? stop_flag_->count() : flag_seen_;
  const bool is_asked = stop_requested_.exchange(false);
  if (is_asked || count != flag_seen_)
  {
    flag_seen_ = count;
    stopped_ = true;
    stop_received_ns_ = now_ns;
    ++stops_;
    // A stop wins over a resume that arrived in the same tick.
    resume_requested_.store(false);
    return true;
  }
  if (resume_requested_.exchange(false)) stopped_ = false;
  return false;
}

int Authority::holder_without_lease() const noexcept
{
  return config_.targets_need_lease ? kNobody : kTargets;
}

int Authority::named_in(const LeaseRecord & lease) const noexcept
{
  for (size_t i = 0; i < config_.sources.size(); ++i)
  {
    if (is_name(config_.sources[i], lease)) return static_cast<int>(i);
  }
  const bool is_targets = !config_.target_source.empty() && is_name(config_.target_source, lease);
  return is_targets ? kTargets : kNobody;
}

bool Authority::take_lease(int64_t now_ns) noexcept
{
  LeaseRecord lease{};
  if (lease_ring_ && lease_ring_->read_latest(nullptr, &lease, sizeof(lease), nullptr) != 0)
  {
    lease_ = lease;
  }
  const int named = lease_.expiry_ns > now_ns ? named_in(lease_) : kNobody;
  const int holder = named == kNobody ? holder_without_lease() : named;
  const uint32_t epoch = named == kNobody ? 0 : lease_.epoch;
  // Not a reason to drop everything at once: rows of the one before end within the braking time.
  instruction_id_ = named == kNobody ? 0 : lease_.instruction_id;
  if (holder == holder_ && epoch == epoch_) return false;
  holder_ = holder;
  epoch_ = epoch;
  return true;
}

Rejection Authority::target_gate() const noexcept
{
  if (stopped_) return Rejection::kStopped;
  return holder_ == kTargets ? Rejection::kNone : Rejection::kNoAuthority;
}

const char * Authority::source() const noexcept
{
  if (holder_ == kNobody) return "";
  return holder_ == kTargets ? config_.target_source.c_str()
                             : config_.sources[static_cast<size_t>(holder_)].c_str();
}

}  // namespace vla_ros_core
