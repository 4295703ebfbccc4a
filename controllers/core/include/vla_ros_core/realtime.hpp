// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>

namespace vla_ros_core
{

/// Give the calling thread the best scheduling it may have and return what it got, for people.
///
/// `wish`: "fifo" (throws Error if not permitted), "normal" (shortest slice, no privilege), "auto"
/// (fifo where permitted, else normal), "none" (default scheduling).
std::string raise_thread_priority(const std::string & wish);

/// Give an ordinary thread (0: the calling one) a time slice [ns], 0.1 to 100 ms; false if refused.
///
/// Linux 6.12 and later run the thread whose slice would end first. A control thread asks for the
/// shortest; threads that share its cores ask for long ones, or one of them that is near the end of
/// its slice runs first, and the control thread does not even interrupt a third.
bool set_thread_slice(int thread_id, long long slice_ns) noexcept;

using ClockId = std::array<uint8_t, 16>;

/// Boot id of this host: tells its CLOCK_MONOTONIC from that of other hosts and of earlier starts.
/// Zeros where it cannot be read.
const ClockId & clock_id() noexcept;

/// Current CLOCK_MONOTONIC [ns].
long long monotonic_ns() noexcept;

/// Sleep until an absolute CLOCK_MONOTONIC instant [ns].
void sleep_until_ns(long long deadline_ns) noexcept;

}  // namespace vla_ros_core
