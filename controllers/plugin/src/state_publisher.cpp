// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_controllers/state_publisher.hpp"

#include <algorithm>
#include <chrono>

#include "vla_ros_core/realtime.hpp"

namespace vla_ros_controllers
{

using vla_ros_core::JointVector;
using vla_ros_core::Mode;

namespace
{

constexpr int64_t kStatusPeriodNs = 100'000'000;
constexpr int kLogPeriodMs = 1000;

std::vector<double> to_vector(const JointVector & v)
{
  return std::vector<double>(v.data(), v.data() + v.size());
}

const char * reason_of(Mode mode)
{
  switch (mode)
  {
    case Mode::kIdle:
      return "no target received yet";
    case Mode::kTrack:
      return "";
    case Mode::kBrake:
    case Mode::kHold:
      return "no target in force";
    case Mode::kStopped:
      return "stopped until resumed";
    case Mode::kFault:
      return "measurement or torque was not finite: gravity and damping only";
  }
  return "";
}

}  // namespace

StatePublisher::StatePublisher(
  rclcpp_lifecycle::LifecycleNode & node, const PublisherConfig & config, TargetInbox & targets,
  const vla_ros_core::SegmentCounters & segments, const LoopTiming & timing)
: node_(node), config_(config), targets_(targets), segments_(segments), timing_(timing)
{
  const rclcpp::QoS newest(1);
  pose_ = node.create_publisher<geometry_msgs::msg::PoseStamped>("current_pose", newest);
  twist_ = node.create_publisher<geometry_msgs::msg::TwistStamped>("current_twist", newest);
  wrench_ = node.create_publisher<geometry_msgs::msg::WrenchStamped>("external_wrench", newest);
  command_ = node.create_publisher<sensor_msgs::msg::JointState>("~/command", newest);
  status_ = node.create_publisher<vla_ros_msgs::msg::ControlStatus>("~/status", newest);
  refused_ = node.create_publisher<diagnostic_msgs::msg::DiagnosticStatus>(
    "~/refused", rclcpp::QoS(1).transient_local());
  timer_ = node.create_wall_timer(
    std::chrono::duration_cast<std::chrono::nanoseconds>(
      std::chrono::duration<double>(1.0 / config.rate_hz)),
    [this, pass = gate_.pass()]
    {
      if (const auto open = pass->enter()) on_timer();
    });
}

void StatePublisher::on_timer()
{
  publish_refusals();
  if (!snapshots_.take()) return;
  const Snapshot & s = snapshots_.front();
  const int64_t now_ns = vla_ros_core::monotonic_ns();
  const rclcpp::Time stamp =
    node_.get_clock()->now() - rclcpp::Duration::from_nanoseconds(now_ns - s.tick_ns);
  publish_motion(s, stamp);
  publish_command(s, stamp);
  if (s.tick_ns - last_status_ns_ >= kStatusPeriodNs) publish_status(s, stamp);
}

void StatePublisher::publish_motion(const Snapshot & s, const rclcpp::Time & stamp)
{
  geometry_msgs::msg::PoseStamped pose;
  pose.header.stamp = stamp;
  pose.header.frame_id = config_.base_frame;
  pose.pose.position.x = s.pose.position.x();
  pose.pose.position.y = s.pose.position.y();
  pose.pose.position.z = s.pose.position.z();
  pose.pose.orientation.x = s.pose.rotation.x();
  pose.pose.orientation.y = s.pose.rotation.y();
  pose.pose.orientation.z = s.pose.rotation.z();
  pose.pose.orientation.w = s.pose.rotation.w();
  pose_->publish(pose);
  geometry_msgs::msg::TwistStamped twist;
  twist.header = pose.header;
  twist.twist.linear.x = s.twist[0];
  twist.twist.linear.y = s.twist[1];
  twist.twist.linear.z = s.twist[2];
  twist.twist.angular.x = s.twist[3];
  twist.twist.angular.y = s.twist[4];
  twist.twist.angular.z = s.twist[5];
  twist_->publish(twist);
  if (!s.has_external_wrench) return;
  geometry_msgs::msg::WrenchStamped wrench;
  wrench.header = pose.header;
  wrench.wrench.force.x = s.external_wrench[0];
  wrench.wrench.force.y = s.external_wrench[1];
  wrench.wrench.force.z = s.external_wrench[2];
  wrench.wrench.torque.x = s.external_wrench[3];
  wrench.wrench.torque.y = s.external_wrench[4];
  wrench.wrench.torque.z = s.external_wrench[5];
  wrench_->publish(wrench);
}

void StatePublisher::publish_command(const Snapshot & s, const rclcpp::Time & stamp)
{
  sensor_msgs::msg::JointState message;
  message.header.stamp = stamp;
  message.header.frame_id = config_.command_interface;
  message.name = config_.joints;
  message.position = to_vector(s.q);
  message.velocity = to_vector(s.dq);
  message.effort = to_vector(s.command);
  command_->publish(message);
}

void StatePublisher::publish_status(const Snapshot & s, const rclcpp::Time & stamp)
{
  vla_ros_msgs::msg::ControlStatus status;
  status.header.stamp = stamp;
  status.header.frame_id = config_.base_frame;
  status.mode = static_cast<uint8_t>(s.mode);
  status.reason = reason_of(s.mode);
  status.priority = "of the controller manager";
  status.epoch = s.epoch;
  status.source = s.source.data();
  status.ticks = s.ticks;
  status.skipped = s.skipped;
  if (last_status_ns_ != 0 && s.ticks > last_status_ticks_)
  {
    status.rate_hz = 1e9 * static_cast<double>(s.ticks - last_status_ticks_) /
                     static_cast<double>(s.tick_ns - last_status_ns_);
  }
  last_status_ns_ = s.tick_ns;
  last_status_ticks_ = s.ticks;
  status.period_us_p50 = timing_.period.quantile_us(0.5);
  status.period_us_p99 = timing_.period.quantile_us(0.99);
  status.compute_us_p50 = timing_.compute.quantile_us(0.5);
  status.compute_us_p99 = timing_.compute.quantile_us(0.99);
  status.segments_accepted = segments_.accepted.load(std::memory_order_relaxed);
  for (const auto & count : segments_.rejected)
  {
    status.segments_rejected += count.load(std::memory_order_relaxed);
  }
  status.expired_brakes = s.expired_brakes;
  status.rows_after_expiry = s.rows_after_expiry;
  status_->publish(status);
}

void StatePublisher::publish_refusals()
{
  if (!targets_.has_news()) return;
  const RefusalReport report = targets_.report();
  diagnostic_msgs::msg::DiagnosticStatus message;
  message.level = diagnostic_msgs::msg::DiagnosticStatus::WARN;
  message.name = node_.get_name();
  message.message = report.last;
  for (size_t i = 1; i < report.counts.size(); ++i)
  {
    diagnostic_msgs::msg::KeyValue entry;
    entry.key = to_string(static_cast<vla_ros_core::Rejection>(i));
    entry.value = std::to_string(report.counts[i]);
    message.values.push_back(entry);
  }
  refused_->publish(message);
  RCLCPP_WARN_THROTTLE(
    node_.get_logger(), *node_.get_clock(), kLogPeriodMs, "refused %s (%lu refusals so far)",
    report.last.c_str(), static_cast<unsigned long>(report.total));
}

}  // namespace vla_ros_controllers
