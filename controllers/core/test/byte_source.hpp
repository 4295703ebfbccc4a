// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>

namespace vla_ros_core::test
{

/// Turns bytes into values, with a liking for those that break things. Zeros once it runs out.
class ByteSource
{
public:
  ByteSource(const uint8_t * data, size_t size) : data_(data), left_(size) {}

  bool is_empty() const { return left_ == 0; }

  uint8_t byte()
  {
    if (left_ == 0) return 0;
    --left_;
    return *data_++;
  }

  void fill(void * target, size_t size)
  {
    auto * bytes = static_cast<uint8_t *>(target);
    for (size_t i = 0; i < size; ++i) bytes[i] = byte();
  }

  template <typename Value>
  Value raw()
  {
    Value value{};
    fill(&value, sizeof(value));
    return value;
  }

  /// Mostly between low and high, sometimes hostile.
  double number(double low, double high)
  {
    const uint8_t how = byte();
    const uint8_t part = byte();
    if (how >= 8) return low + (high - low) * (part / 255.0);
    static const double kHostile[] = {
      std::numeric_limits<double>::quiet_NaN(),
      std::numeric_limits<double>::infinity(),
      -std::numeric_limits<double>::infinity(),
      1e308,
      -1e308,
      5e-324,
      -0.0};
    return how < 7 ? kHostile[how] : raw<double>();
  }

private:
  const uint8_t * data_;
  size_t left_;
};

}  // namespace vla_ros_core::test
