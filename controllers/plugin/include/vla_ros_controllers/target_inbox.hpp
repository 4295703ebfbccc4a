// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <geometry_msgs/msg/pose_stamped.hpp>
#include <geometry_msgs/msg/wrench_stamped.hpp>
#include <mutex>
#include <rclcpp/subscription.hpp>
#include <rclcpp_lifecycle/lifecycle_node.hpp>
#include <sensor_msgs/msg/joint_state.hpp>
#include <string>

#include "vla_ros_controllers/callback_gate.hpp"
#include "vla_ros_core/target.hpp"

namespace vla_ros_controllers
{

/// Which topics a controller listens to.
struct TargetTopics
{
  bool pose = false;
  bool joint = false;
  bool wrench = false;
};

/// What was refused and why, for people.
struct RefusalReport
{
  std::array<uint64_t, static_cast<size_t>(vla_ros_core::Rejection::kCount)> counts{};
  uint64_t total = 0;
  std::string last;  ///< "target_pose: quaternion not unit"
};

/// The topics `target_pose`, `target_joint` and `target_wrench`. TargetStream checks each message
/// where it arrives, outside the control loop, and hands it over wait-free; what it refuses is
/// counted here and has no effect.
class TargetInbox
{
public:
  TargetInbox(
    rclcpp_lifecycle::LifecycleNode & node, const TargetTopics & topics,
    vla_ros_core::TargetStream & stream);

  /// Listen, or let messages pass unread while the controller is inactive.
  void set_active(bool active) noexcept { active_.store(active); }
  RefusalReport report() const;
  /// Whether anything was refused since the last call; for the thread that publishes reports.
  bool has_news() noexcept { return has_news_.exchange(false); }

private:
  void on_pose(const geometry_msgs::msg::PoseStamped & message);
  void on_joint(const sensor_msgs::msg::JointState & message);
  void on_wrench(const geometry_msgs::msg::WrenchStamped & message);
  /// CLOCK_MONOTONIC of a ROS time stamp [ns]; 0 if there is none.
  int64_t to_monotonic(const builtin_interfaces::msg::Time & stamp, int64_t now_ns) const;
  void count(const char * topic, vla_ros_core::Rejection reason);
  bool is_listening() const noexcept { return active_.load(std::memory_order_relaxed); }

  rclcpp_lifecycle::LifecycleNode & node_;
  vla_ros_core::TargetStream & stream_;
  mutable std::mutex mutex_;  // of last_refusal_; never taken by the loop
  std::string last_refusal_;
  std::array<std::atomic<uint64_t>, static_cast<size_t>(vla_ros_core::Rejection::kCount)> counts_{};
  std::atomic<bool> has_news_{false};
  std::atomic<bool> active_{false};
  rclcpp::Subscription<geometry_msgs::msg::PoseStamped>::SharedPtr pose_topic_;
  rclcpp::Subscription<sensor_msgs::msg::JointState>::SharedPtr joint_topic_;
  rclcpp::Subscription<geometry_msgs::msg::WrenchStamped>::SharedPtr wrench_topic_;
  CallbackGate gate_;
};

}  // namespace vla_ros_controllers
