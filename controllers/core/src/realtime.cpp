// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_core/realtime.hpp"

#include <sched.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <cctype>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "vla_ros_core/error.hpp"

namespace vla_ros_core
{

namespace
{

constexpr int kFifoPriority = 50;
constexpr long long kShortestSliceNs = 100'000;

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

/// The 32 hexadecimal digits of the kernel's UUID as bytes.
ClockId read_clock_id() noexcept
{
  char text[64] = {};
  FILE * file = std::fopen("/proc/sys/kernel/random/boot_id", "r");
  if (file == nullptr) return ClockId{};
  const size_t length = std::fread(text, 1, sizeof(text) - 1, file);
  std::fclose(file);
  ClockId id{};
  size_t digits = 0;
  for (size_t i = 0; i < length && digits < 2 * id.size(); ++i)
  {
    const char c = text[i];
    if (std::isxdigit(static_cast<unsigned char>(c)) == 0) continue;
    const int value = c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10;
    id[digits / 2] = static_cast<uint8_t>(id[digits / 2] << 4 | value);
    ++digits;
  }
  return digits == 2 * id.size() ? id : ClockId{};
}

bool request_fifo()
{
  sched_param parameters{};
  parameters.sched_priority = kFifoPriority;
  return sched_setscheduler(0, SCHED_FIFO, &parameters) == 0;
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
  // An ordinary thread's timers may be late by 50 us unless it says otherwise.
  prctl(PR_SET_TIMERSLACK, 1UL);
  if (set_thread_slice(0, kShortestSliceNs)) return "SCHED_OTHER, 0.1 ms slice" + memory;
  return "SCHED_OTHER" + memory;
}

bool set_thread_slice(int thread_id, long long slice_ns) noexcept
{
  errno = 0;
  const int nice = getpriority(PRIO_PROCESS, static_cast<id_t>(thread_id));
  if (errno != 0) return false;
  SchedAttributes attributes{};
  attributes.size = sizeof(attributes);
  attributes.policy = SCHED_OTHER;
  attributes.nice = nice;
  attributes.runtime = static_cast<uint64_t>(slice_ns);
  return syscall(SYS_sched_setattr, thread_id, &attributes, 0) == 0;
}

const ClockId & clock_id() noexcept
{
  static const ClockId id = read_clock_id();
  return id;
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
