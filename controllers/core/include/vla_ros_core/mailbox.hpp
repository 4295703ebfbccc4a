// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <type_traits>

namespace vla_ros_core
{

/// Hands the newest value of a plain record from one thread to another (a seqlock).
///
/// put() never waits for the reader, take() never for the writer: it tries again a few times and
/// otherwise says that there is nothing new, which the next call puts right.
/// Thread-safety: one writer at a time, one reader per `seen`. Both wait-free, no allocation.
template <typename Record>
class Mailbox
{
  static_assert(std::is_trivially_copyable_v<Record> && sizeof(Record) % sizeof(uint64_t) == 0);
  static constexpr size_t kWords = sizeof(Record) / sizeof(uint64_t);

public:
  void put(const Record & record) noexcept
  {
    uint64_t words[kWords];
    std::memcpy(words, &record, sizeof(record));
    const uint64_t number = number_.load(std::memory_order_relaxed);
    number_.store(number + 1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_release);
    for (size_t i = 0; i < kWords; ++i) words_[i].store(words[i], std::memory_order_relaxed);
    number_.store(number + 2, std::memory_order_release);
  }

  /// Copy the newest record unless `seen` is its number already; `seen` becomes its number.
  bool take(Record & record, uint64_t & seen) const noexcept
  {
    for (int attempt = 0; attempt < 4; ++attempt)
    {
      const uint64_t number = number_.load(std::memory_order_acquire);
      if (number == seen || number == 0) return false;
      if (number % 2 != 0) continue;
      uint64_t words[kWords];
      for (size_t i = 0; i < kWords; ++i) words[i] = words_[i].load(std::memory_order_relaxed);
      std::atomic_thread_fence(std::memory_order_acquire);
      if (number_.load(std::memory_order_relaxed) != number) continue;
      std::memcpy(&record, words, sizeof(record));
      seen = number;
      return true;
    }
    return false;
  }

  /// Number of the newest record that is there in full; for `seen`, to skip it.
  uint64_t newest() const noexcept
  {
    return number_.load(std::memory_order_acquire) & ~uint64_t{1};
  }

private:
  std::atomic<uint64_t> number_{0};
  std::array<std::atomic<uint64_t>, kWords> words_{};
};

}  // namespace vla_ros_core
