// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_controllers/target_inbox.hpp"

#include "vla_ros_core/realtime.hpp"

namespace vla_ros_controllers
{

using vla_ros_core::Rejection;

TargetInbox::TargetInbox(
  rclcpp_lifecycle::LifecycleNode & node, const TargetTopics & topics,
  vla_ros_core::TargetStream & stream)
: node_(node), stream_(stream)
{
  const rclcpp::QoS newest(1);
  if (topics.pose)
  {
    pose_topic_ = node.create_subscription<geometry_msgs::msg::PoseStamped>(
      "target_pose", newest,
      [this, pass = gate_.pass()](const geometry_msgs::msg::PoseStamped & message)
      {
        if (const auto open = pass->enter()) on_pose(message);
      });
  }
  if (topics.joint)
  {
    joint_topic_ = node.create_subscription<sensor_msgs::msg::JointState>(
      "target_joint", newest,
      [this, pass = gate_.pass()](const sensor_msgs::msg::JointState & message)
      {
        if (const auto open = pass->enter()) on_joint(message);
      });
  }
  if (topics.wrench)
  {
    wrench_topic_ = node.create_subscription<geometry_msgs::msg::WrenchStamped>(
      "target_wrench", newest,
      [this, pass = gate_.pass()](const geometry_msgs::msg::WrenchStamped & message)
      {
        if (const auto open = pass->enter()) on_wrench(message);
      });
  }
}

int64_t TargetInbox::to_monotonic(const builtin_interfaces::msg::Time & stamp, int64_t now_ns) const
{
  if (stamp.sec == 0 && stamp.nanosec == 0) return 0;
  const rclcpp::Time now = node_.get_clock()->now();
  return now_ns - (now - rclcpp::Time(stamp, now.get_clock_type())).nanoseconds();
}

void TargetInbox::on_pose(const geometry_msgs::msg::PoseStamped & message)
{
  if (!is_listening()) return;
  const int64_t now_ns = vla_ros_core::monotonic_ns();
  const auto & p = message.pose.position;
  const auto & o = message.pose.orientation;
  vla_ros_core::PoseTarget target;
  target.stamp_ns = to_monotonic(message.header.stamp, now_ns);
  target.position[0] = p.x;
  target.position[1] = p.y;
  target.position[2] = p.z;
  target.quat_xyzw[0] = o.x;
  target.quat_xyzw[1] = o.y;
  target.quat_xyzw[2] = o.z;
  target.quat_xyzw[3] = o.w;
  count("target_pose", stream_.set_pose(target, message.header.frame_id, now_ns));
}

void TargetInbox::on_joint(const sensor_msgs::msg::JointState & message)
{
  if (!is_listening()) return;
  const int64_t now_ns = vla_ros_core::monotonic_ns();
  count(
    "target_joint", stream_.set_joint(
                      message.name, message.position, message.velocity,
                      to_monotonic(message.header.stamp, now_ns), now_ns));
}

void TargetInbox::on_wrench(const geometry_msgs::msg::WrenchStamped & message)
{
  if (!is_listening()) return;
  const int64_t now_ns = vla_ros_core::monotonic_ns();
  const auto & f = message.wrench.force;
  const auto & m = message.wrench.torque;
  vla_ros_core::WrenchTarget target;
  target.stamp_ns = to_monotonic(message.header.stamp, now_ns);
  const double values[6] = {f.x, f.y, f.z, m.x, m.y, m.z};
  for (int i = 0; i < 6; ++i) target.wrench[i] = values[i];
  count("target_wrench", stream_.set_wrench(target, message.header.frame_id, now_ns));
}

void TargetInbox::count(const char * topic, Rejection reason)
{
  counts_[static_cast<size_t>(reason)].fetch_add(1, std::memory_order_relaxed);
  if (reason == Rejection::kNone) return;
  const std::lock_guard<std::mutex> lock(mutex_);
  last_refusal_ = std::string(topic) + ": " + to_string(reason);
  has_news_.store(true);
}

RefusalReport TargetInbox::report() const
{
  RefusalReport report;
  for (size_t i = 0; i < counts_.size(); ++i)
  {
    report.counts[i] = counts_[i].load(std::memory_order_relaxed);
    if (static_cast<Rejection>(i) != Rejection::kNone) report.total += report.counts[i];
  }
  const std::lock_guard<std::mutex> lock(mutex_);
  report.last = last_refusal_;
  return report;
}

}  // namespace vla_ros_controllers
