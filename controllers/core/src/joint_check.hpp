// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "vla_ros_core/config_check.hpp"
#include "vla_ros_core/law_config.hpp"

namespace vla_ros_core
{

/// Throw Error naming `name` unless it has one value between low and high for every joint.
inline void check_joints(
  const std::string & name, const JointVector & value, int n_joints, double low, double high)
{
  if (value.size() != n_joints)
  {
    throw Error(
      name + " needs " + std::to_string(n_joints) + " values, got " + std::to_string(value.size()));
  }
  for (Eigen::Index i = 0; i < value.size(); ++i)
  {
    check_range(name + "[" + std::to_string(i) + "]", value[i], low, high);
  }
}

/// Throw Error naming the field of a friction model that is out of range; empty is allowed.
inline void check_friction(const FrictionModel & friction, int n_joints)
{
  if (friction.a.size() == 0) return;
  check_joints("friction.a", friction.a, n_joints, 0.0, 50.0);
  check_joints("friction.b", friction.b, n_joints, 0.0, 1000.0);
  check_joints("friction.c", friction.c, n_joints, -1.0, 1.0);
}

}  // namespace vla_ros_core
