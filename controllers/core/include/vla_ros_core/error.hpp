// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdexcept>
#include <string>

namespace vla_ros_core
{

/// Raised by set-up code (constructors, open, load); never by anything the control loop calls.
struct Error : std::runtime_error
{
  using std::runtime_error::runtime_error;
};

}  // namespace vla_ros_core
