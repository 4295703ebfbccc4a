// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/nanobind.h>

#include <vector>

#include "vla_ros_core/error.hpp"
#include "vla_ros_core/robot_model.hpp"

namespace vla_ros_core::python
{

void bind_shm(nanobind::module_ & m);
void bind_control(nanobind::module_ & m);
void bind_law(nanobind::module_ & m);
void bind_reference(nanobind::module_ & m);

inline JointVector to_joint_vector(const std::vector<double> & values)
{
  if (values.size() > kMaxJoints)
  {
    throw Error(
      "at most " + std::to_string(kMaxJoints) + " joints, got " + std::to_string(values.size()));
  }
  return Eigen::Map<const Eigen::VectorXd>(values.data(), static_cast<Eigen::Index>(values.size()));
}

inline std::vector<double> to_list(const double * begin, size_t n) { return {begin, begin + n}; }

}  // namespace vla_ros_core::python
