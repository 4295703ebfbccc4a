// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

namespace vla_ros_core
{

/// Share of the way to a new value in one tick of a first-order filter; exact at any rate.
inline double share(double dt_s, double time_constant_s) noexcept
{
  return time_constant_s <= 0.0 ? 1.0 : -std::expm1(-dt_s / time_constant_s);
}

}  // namespace vla_ros_core
