// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <sstream>
#include <string>

#include "vla_ros_core/error.hpp"

namespace vla_ros_core
{

/// Throw Error naming the setting, its value and its allowed range unless low <= value <= high.
inline void check_range(const std::string & name, double value, double low, double high)
{
  if (std::isfinite(value) && value >= low && value <= high) return;
  std::ostringstream message;
  message << name << " must be between " << low << " and " << high << ", got " << value;
  throw Error(message.str());
}

}  // namespace vla_ros_core
