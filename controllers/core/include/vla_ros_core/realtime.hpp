// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace vla_ros_core
{

/// Give the calling thread the best scheduling it may have and return what it got, for people.
///
/// `wish`: "fifo" (throws Error if not permitted), "normal" (shortest slice, no privilege), "auto"
/// (fifo where permitted, else normal), "none" (default scheduling).
std::string raise_thread_priority(const std::string & wish);

/// Current CLOCK_MONOTONIC [ns].
long long monotonic_ns() noexcept;

/// Sleep until an absolute CLOCK_MONOTONIC instant [ns].
void sleep_until_ns(long long deadline_ns) noexcept;

}  // namespace vla_ros_core
