// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

namespace vla_ros_controllers
{

/// Hands the newest value from one thread to another.
///
/// Wait-free on both sides: neither ever waits for the other, and the reader sees a whole value.
/// Values that were overwritten before they were read are lost, which is what a target is for.
/// Thread-safety: one writer, one reader. Real-time: no lock; no allocation if copying T has none.
template <typename T>
class TripleBuffer
{
public:
  TripleBuffer() = default;
  /// Fill all three places, so that values with storage of their own need none later.
  explicit TripleBuffer(const T & initial) : slots_{initial, initial, initial} {}

  /// Writer: hand over a copy of `value`.
  void write(const T & value)
  {
    slots_[back_] = value;
    publish();
  }

  /// Writer: place to fill before publish(); it holds some older value.
  T & back() noexcept { return slots_[back_]; }

  /// Writer: hand over what was put into back().
  void publish() noexcept
  {
    back_ =
      middle_.exchange(static_cast<uint8_t>(back_ | kFresh), std::memory_order_acq_rel) & kPlace;
  }

  /// Reader: take over the newest value; false if there is none since the last call.
  bool take() noexcept
  {
    if ((middle_.load(std::memory_order_relaxed) & kFresh) == 0) return false;
    front_ = middle_.exchange(front_, std::memory_order_acq_rel) & kPlace;
    return true;
  }

  /// Reader: value of the last take().
  const T & front() const noexcept { return slots_[front_]; }

private:
  static constexpr uint8_t kFresh = 4;
  static constexpr uint8_t kPlace = 3;

  std::array<T, 3> slots_{};
  uint8_t back_ = 0;
  std::atomic<uint8_t> middle_{1};
  uint8_t front_ = 2;
};

}  // namespace vla_ros_controllers
