// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "vla_ros_core/law_config.hpp"

namespace vla_ros_core
{

/// Friction torque [N·m] of joint `i` at the velocity `dq` [rad/s]; zero at rest.
inline double friction_torque(const FrictionModel & f, Eigen::Index i, double dq) noexcept
{
  const double at_rest = f.a[i] / (1.0 + std::exp(-f.b[i] * f.c[i]));
  return f.a[i] / (1.0 + std::exp(-f.b[i] * (dq + f.c[i]))) - at_rest;
}

}  // namespace vla_ros_core
