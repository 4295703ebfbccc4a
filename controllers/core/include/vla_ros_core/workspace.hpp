// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "vla_ros_core/config_check.hpp"
#include "vla_ros_core/pose.hpp"

namespace vla_ros_core
{

/// Box that the reference stays in, base axes [m].
struct WorkspaceConfig
{
  Eigen::Vector3d low = Eigen::Vector3d::Constant(-10.0);
  Eigen::Vector3d high = Eigen::Vector3d::Constant(10.0);
  double margin_m = 0.02;  ///< over which it is slowed down

  /// Throws Error naming the field and its allowed range.
  void validate() const
  {
    check_range("workspace.margin_m", margin_m, 1e-3, 0.2);
    for (int i = 0; i < 3; ++i)
    {
      const std::string place = "[" + std::to_string(i) + "]";
      check_range("workspace.low" + place, low[i], -10.0, 10.0);
      check_range("workspace.high" + place, high[i], low[i] + 2.0 * margin_m, 10.0);
    }
  }
};

/// Keep a reference inside the box. In the last margin m before a wall b a coordinate x becomes
/// b - m exp(-(x - (b - m)) / m): position and twist stay continuous, the wall is never reached,
/// and further inside nothing changes. Real-time: noexcept, no allocation.
inline void keep_inside(
  const WorkspaceConfig & box, Eigen::Vector3d & position, Vector6 & twist,
  Vector6 & acceleration) noexcept
{
  const double m = box.margin_m;
  for (int i = 0; i < 3; ++i)
  {
    const bool is_high = position[i] > box.high[i] - m;
    if (!is_high && position[i] >= box.low[i] + m) continue;
    const double sign = is_high ? 1.0 : -1.0;
    const double wall = is_high ? box.high[i] : box.low[i];
    const double beyond = sign * (position[i] - wall) + m;
    const double slope = std::exp(-beyond / m);
    position[i] = wall - sign * m * slope;
    twist[i] *= slope;
    acceleration[i] = 0.0;
  }
}

}  // namespace vla_ros_core
