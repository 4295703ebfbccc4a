// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace vla_ros_core
{

/// Counts of durations in steps of one microsecond up to 20 ms; longer ones fall into the last
/// step. Thread-safety: one thread adds, any thread reads.
class DurationHistogram
{
public:
  static constexpr size_t kBins = 20000;

  void add(int64_t duration_ns) noexcept
  {
    int64_t bin = duration_ns / 1000;
    if (bin < 0) bin = 0;
    if (bin >= static_cast<int64_t>(kBins)) bin = kBins - 1;
    bins_[static_cast<size_t>(bin)].fetch_add(1, std::memory_order_relaxed);
  }

  void clear() noexcept
  {
    for (auto & bin : bins_) bin.store(0, std::memory_order_relaxed);
  }

  uint64_t count() const noexcept
  {
    uint64_t total = 0;
    for (const auto & bin : bins_) total += bin.load(std::memory_order_relaxed);
    return total;
  }

  /// Smallest duration [us] that at least `fraction` of all do not exceed; 0 when empty.
  double quantile_us(double fraction) const noexcept
  {
    const uint64_t total = count();
    if (total == 0) return 0.0;
    const auto wanted = static_cast<uint64_t>(fraction * static_cast<double>(total));
    uint64_t sum = 0;
    for (size_t i = 0; i < kBins; ++i)
    {
      sum += bins_[i].load(std::memory_order_relaxed);
      if (sum > wanted) return static_cast<double>(i) + 0.5;
    }
    return static_cast<double>(kBins);
  }

  uint32_t bin(size_t i) const noexcept { return bins_[i].load(std::memory_order_relaxed); }

private:
  std::array<std::atomic<uint32_t>, kBins> bins_{};
};

}  // namespace vla_ros_core
