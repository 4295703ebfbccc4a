// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_controllers/robot_description.hpp"

#include <chrono>
#include <rclcpp/executors/single_threaded_executor.hpp>
#include <rclcpp/node.hpp>
#include <std_msgs/msg/string.hpp>

#include "vla_ros_core/error.hpp"

namespace vla_ros_controllers
{

namespace
{

constexpr const char * kName = "robot_description";

/// Wait for the latched topic, with a node of our own: ours is spun by the controller manager,
/// which may be waiting for us at this moment.
std::string wait_for_topic(rclcpp_lifecycle::LifecycleNode & node, double timeout_s)
{
  std::string description;
  const auto listener = std::make_shared<rclcpp::Node>(
    std::string(node.get_name()) + "_description_listener", node.get_namespace(),
    rclcpp::NodeOptions().use_global_arguments(false).start_parameter_services(false));
  const auto topic = listener->create_subscription<std_msgs::msg::String>(
    kName, rclcpp::QoS(1).transient_local(),
    [&description](const std_msgs::msg::String & message) { description = message.data; });
  rclcpp::executors::SingleThreadedExecutor executor;
  executor.add_node(listener);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(timeout_s);
  while (description.empty() && rclcpp::ok() && std::chrono::steady_clock::now() < deadline)
  {
    executor.spin_once(std::chrono::milliseconds(50));
  }
  return description;
}

}  // namespace

std::string find_robot_description(
  rclcpp_lifecycle::LifecycleNode & node, const std::string & from_manager, double timeout_s)
{
  if (!from_manager.empty()) return from_manager;
  std::string description;
  if (node.get_parameter(kName, description) && !description.empty()) return description;
  description = wait_for_topic(node, timeout_s);
  if (!description.empty()) return description;
  throw vla_ros_core::Error(
    "no robot description: the controller manager has none, and neither parameter nor topic "
    "'robot_description' gave one");
}

}  // namespace vla_ros_controllers
