// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_core/realtime.hpp"

#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstring>

#include "vla_ros_core/error.hpp"

namespace vla_ros_core
{

namespace
{

constexpr int kFifoPriority = 50;
constexpr uint64_t kShortestSliceNs = 100'000;

// glibc has no wrapper for sched_setattr before 2.41.
struct SchedAttributes
{
  uint32_t size;
  uint32_t policy;
  uint64_t flags;
  int32_t nice;
  uint32_t priority;
  uint64_t runtime;
  uint64_t deadline;
  uint64_t period;
};

bool request_fifo()
{
  sched_param parameters{};
  parameters.sched_priority = kFifoPriority;
  return sched_setscheduler(0, SCHED_FIFO, &parameters) == 0;
}

/// Linux 6.12 and later let an ordinary thread ask for a short slice: it then runs sooner.
bool request_short_slice()
{
  SchedAttributes attributes{};
  attributes.size = sizeof(attributes);
  attributes.policy = SCHED_OTHER;
  attributes.runtime = kShortestSliceNs;
  return syscall(SYS_sched_setattr, 0, &attributes, 0) == 0;
}

}  // namespace

std::string raise_thread_priority(const std::string & wish)
{
  if (wish != "auto" && wish != "fifo" && wish != "normal" && wish != "none")
  {
    throw Error("priority must be one of auto, fifo, normal, none, got '" + wish + "'");
  }
  if (wish == "none") return "default scheduling";
  // Pages that are touched later must not fault in the loop; failing is not fatal.
  const bool locked = mlockall(MCL_CURRENT | MCL_FUTURE) == 0;
  const std::string memory = locked ? ", memory locked" : "";
  if (wish != "normal" && request_fifo())
  {
    return "SCHED_FIFO " + std::to_string(kFifoPriority) + memory;
  }
  if (wish == "fifo")
  {
    throw Error(
      "priority 'fifo' is not permitted: run as root, give the user rtprio in "
      "/etc/security/limits.conf, or choose 'normal'");
  }
  if (request_short_slice()) return "SCHED_OTHER, 0.1 ms slice" + memory;
  return "SCHED_OTHER" + memory;
}

long long monotonic_ns() noexcept
{
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<long long>(now.tv_sec) * 1'000'000'000LL + now.tv_nsec;
}

void sleep_until_ns(long long deadline_ns) noexcept
{
  timespec deadline{};
  deadline.tv_sec = deadline_ns / 1'000'000'000LL;
  deadline.tv_nsec = deadline_ns % 1'000'000'000LL;
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, nullptr) == EINTR)
  {
  }
}

}  // namespace vla_ros_core
