// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <rclcpp_lifecycle/lifecycle_node.hpp>
#include <string>

namespace vla_ros_controllers
{

/// URDF of the robot: what the controller manager gave, else the node's parameter
/// `robot_description`, else the topic of that name, waited for up to `timeout_s`.
/// Throws vla_ros_core::Error if there is none.
std::string find_robot_description(
  rclcpp_lifecycle::LifecycleNode & node, const std::string & from_manager, double timeout_s);

}  // namespace vla_ros_controllers
