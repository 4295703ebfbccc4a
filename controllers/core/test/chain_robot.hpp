// SPDX-License-Identifier: Apache-2.0
// An arm of any number of joints, for tests: no file and no other package is needed.
#pragma once

#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "vla_ros_core/robot_model.hpp"

namespace vla_ros_core::test
{

/// Links of 0.15 m, each joint turned about another axis than the last.
inline std::shared_ptr<RobotModel> make_chain(int n_joints)
{
  static const char * const kAxes[] = {"0 0 1", "0 1 0", "1 0 0"};
  std::ostringstream xml;
  std::vector<std::string> names;
  xml << "<robot name=\"chain\"><link name=\"link0\"/>";
  for (int i = 0; i < n_joints; ++i)
  {
    names.push_back("joint" + std::to_string(i + 1));
    xml << "<link name=\"link" << i + 1 << "\"><inertial><origin xyz=\"0 0.01 0.07\"/>"
        << "<mass value=\"1.2\"/><inertia ixx=\"0.006\" iyy=\"0.005\" izz=\"0.004\" ixy=\"0\" "
        << "ixz=\"0\" iyz=\"0\"/></inertial></link><joint name=\"" << names.back()
        << "\" type=\"revolute\"><parent link=\"link" << i << "\"/><child link=\"link" << i + 1
        << "\"/><origin xyz=\"0.02 0 0.15\" rpy=\"0.1 0 0\"/><axis xyz=\"" << kAxes[i % 3]
        << "\"/><limit lower=\"-2.8\" upper=\"2.8\" effort=\"80\" velocity=\"2\"/></joint>";
  }
  xml << "</robot>";
  return std::make_shared<RobotModel>(
    xml.str(), names, "link0", "link" + std::to_string(n_joints),
    std::vector<double>(static_cast<size_t>(n_joints), 0.1));
}

}  // namespace vla_ros_core::test
