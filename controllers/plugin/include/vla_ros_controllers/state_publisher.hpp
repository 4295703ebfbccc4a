// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <diagnostic_msgs/msg/diagnostic_status.hpp>
#include <geometry_msgs/msg/pose_stamped.hpp>
#include <geometry_msgs/msg/twist_stamped.hpp>
#include <geometry_msgs/msg/wrench_stamped.hpp>
#include <rclcpp/publisher.hpp>
#include <rclcpp/timer.hpp>
#include <rclcpp_lifecycle/lifecycle_node.hpp>
#include <sensor_msgs/msg/joint_state.hpp>
#include <string>
#include <vector>
#include <vla_ros_msgs/msg/control_status.hpp>

#include "vla_ros_controllers/callback_gate.hpp"
#include "vla_ros_controllers/target_inbox.hpp"
#include "vla_ros_controllers/triple_buffer.hpp"
#include "vla_ros_core/histogram.hpp"
#include "vla_ros_core/pose.hpp"
#include "vla_ros_core/records.hpp"
#include "vla_ros_core/robot_model.hpp"
#include "vla_ros_core/segment_inbox.hpp"

namespace vla_ros_controllers
{

/// What one tick measured and asked for. Poses in base; twists and wrenches linear first, at the
/// end effector, along base axes.
struct Snapshot
{
  int64_t tick_ns = 0;
  vla_ros_core::Mode mode = vla_ros_core::Mode::kIdle;
  uint32_t epoch = 0;
  std::array<char, vla_ros_core::kNameLength> source{};
  vla_ros_core::JointVector q;
  vla_ros_core::JointVector dq;
  vla_ros_core::JointVector command;  ///< [N·m], or [rad] or [rad/s] of the admittance controller
  vla_ros_core::Pose pose;
  vla_ros_core::Vector6 twist = vla_ros_core::Vector6::Zero();
  vla_ros_core::Vector6 external_wrench = vla_ros_core::Vector6::Zero();
  bool has_external_wrench = false;
  uint64_t ticks = 0;
  uint64_t skipped = 0;
  uint64_t expired_brakes = 0;
  uint64_t rows_after_expiry = 0;
};

/// What the loop counts beside the snapshots. Thread-safety: the loop adds, any thread reads.
struct LoopTiming
{
  vla_ros_core::DurationHistogram period;
  vla_ros_core::DurationHistogram compute;
};

/// How the topics of a controller are named and paced.
struct PublisherConfig
{
  std::vector<std::string> joints;
  std::string base_frame;
  double rate_hz = 100.0;
  /// Field of the JointState `~/command` that carries the command: effort, position or velocity.
  std::string command_interface = "effort";
};

/// Publishes snapshots of the loop: current_pose, current_twist, external_wrench, ~/command,
/// ~/status and, when something was refused, ~/refused.
///
/// The loop only leaves a snapshot behind, wait-free; messages are built and sent by a timer of the
/// node, so that nothing of the middleware runs in update().
class StatePublisher
{
public:
  StatePublisher(
    rclcpp_lifecycle::LifecycleNode & node, const PublisherConfig & config, TargetInbox & targets,
    const vla_ros_core::SegmentCounters & segments, const LoopTiming & timing);

  /// Control loop: where to write the snapshot of this tick; then call publish().
  Snapshot & next() noexcept { return snapshots_.back(); }
  void publish() noexcept { snapshots_.publish(); }

private:
  void on_timer();
  void publish_motion(const Snapshot & s, const rclcpp::Time & stamp);
  void publish_command(const Snapshot & s, const rclcpp::Time & stamp);
  void publish_status(const Snapshot & s, const rclcpp::Time & stamp);
  void publish_refusals();

  template <typename Message>
  using Publisher = typename rclcpp::Publisher<Message>::SharedPtr;

  rclcpp_lifecycle::LifecycleNode & node_;
  PublisherConfig config_;
  TargetInbox & targets_;
  const vla_ros_core::SegmentCounters & segments_;
  const LoopTiming & timing_;
  TripleBuffer<Snapshot> snapshots_;
  int64_t last_status_ns_ = 0;
  uint64_t last_status_ticks_ = 0;
  Publisher<geometry_msgs::msg::PoseStamped> pose_;
  Publisher<geometry_msgs::msg::TwistStamped> twist_;
  Publisher<geometry_msgs::msg::WrenchStamped> wrench_;
  Publisher<sensor_msgs::msg::JointState> command_;
  Publisher<vla_ros_msgs::msg::ControlStatus> status_;
  Publisher<diagnostic_msgs::msg::DiagnosticStatus> refused_;
  rclcpp::TimerBase::SharedPtr timer_;
  CallbackGate gate_;
};

}  // namespace vla_ros_controllers
