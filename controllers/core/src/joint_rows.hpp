// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "vla_ros_core/error.hpp"
#include "vla_ros_core/plant.hpp"

namespace vla_ros_core
{

/// Where the joints of an arm are among those of the plant.
/// Real-time: everything but the constructor is noexcept and does not allocate.
class JointRows
{
public:
  /// Throws Error if the plant lacks a joint.
  JointRows(
    const std::vector<std::string> & plant_joints, const std::vector<std::string> & arm_joints)
  {
    for (const std::string & joint : arm_joints)
    {
      const auto found = std::find(plant_joints.begin(), plant_joints.end(), joint);
      if (found == plant_joints.end()) throw Error("the plant has no joint '" + joint + "'");
      rows_.push_back(found - plant_joints.begin());
    }
  }

  int size() const noexcept { return static_cast<int>(rows_.size()); }

  /// `q` and `dq` have size() values.
  void read(const Measurement & plant, JointVector & q, JointVector & dq) const noexcept
  {
    for (size_t i = 0; i < rows_.size(); ++i)
    {
      q[static_cast<Eigen::Index>(i)] = plant.q[rows_[i]];
      dq[static_cast<Eigen::Index>(i)] = plant.dq[rows_[i]];
    }
  }

  void write(const JointVector & tau, JointVector & plant_tau) const noexcept
  {
    for (size_t i = 0; i < rows_.size(); ++i)
    {
      plant_tau[rows_[i]] = tau[static_cast<Eigen::Index>(i)];
    }
  }

private:
  std::vector<Eigen::Index> rows_;
};

}  // namespace vla_ros_core
