// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <controller_interface/controller_interface.hpp>
#include <cstdint>
#include <memory>
#include <rclcpp/service.hpp>
#include <std_srvs/srv/trigger.hpp>
#include <string>
#include <vector>

#include "vla_ros_controllers/callback_gate.hpp"
#include "vla_ros_controllers/follower.hpp"
#include "vla_ros_controllers/state_publisher.hpp"
#include "vla_ros_controllers/target_inbox.hpp"
#include "vla_ros_core/robot_model.hpp"

namespace vla_ros_controllers
{

/// What every controller of an arm learns from its parameters.
struct ArmConfig
{
  std::vector<std::string> joints;
  std::string base_frame;
  std::string ee_frame;
  std::vector<double> armature;
  double publish_rate_hz = 100.0;
  FollowerConfig follower;
};

/// What the three controllers share: life cycle, interfaces, targets, stop, publishing, timing.
/// Derived classes have parameters and put the parts of vla_ros_core together; neither they nor
/// this class compute anything about the robot.
///
/// Real-time: update() takes no lock, does not allocate and does not log.
class ArmController : public controller_interface::ControllerInterface
{
public:
  using CallbackReturn = controller_interface::CallbackReturn;

  controller_interface::InterfaceConfiguration command_interface_configuration() const override;
  controller_interface::InterfaceConfiguration state_interface_configuration() const override;
  CallbackReturn on_init() override;
  CallbackReturn on_configure(const rclcpp_lifecycle::State & previous) override;
  CallbackReturn on_activate(const rclcpp_lifecycle::State & previous) override;
  CallbackReturn on_deactivate(const rclcpp_lifecycle::State & previous) override;
  CallbackReturn on_cleanup(const rclcpp_lifecycle::State & previous) override;
  controller_interface::return_type update(
    const rclcpp::Time & time, const rclcpp::Duration & period) override;

protected:
  explicit ArmController(const TargetTopics & topics) : topics_(topics) {}

  /// Declare the parameters. May throw.
  virtual void declare() = 0;
  /// The parameters that are common. May throw.
  virtual ArmConfig arm_config() = 0;
  /// Make the law for this robot; throws vla_ros_core::Error if a parameter is wrong.
  virtual void build(const std::string & urdf) = 0;
  /// Forget what was built.
  virtual void tear_down() = 0;
  /// Kind of the command interface of every joint: effort, position or velocity.
  virtual std::string command_interface() const = 0;
  /// State interfaces beyond position and velocity of every joint, in this order.
  virtual std::vector<std::string> more_state_interfaces() const { return {}; }

  /// Begin at the measured state. `held` is what the command interfaces hold, NaN for nothing.
  virtual void begin(const vla_ros_core::JointVector & held) = 0;
  /// One tick with a measurement, or with `is_measured` false if it was not finite: fill command,
  /// mode, pose, twist and wrench of `out`.
  virtual void step(int64_t now_ns, double dt_s, bool is_measured, Snapshot & out) noexcept = 0;
  /// What to leave behind in the command interfaces; false: what is there.
  virtual bool end(vla_ros_core::JointVector & command) noexcept = 0;

  Follower & follower() noexcept { return *follower_; }
  const ArmConfig & config() const noexcept { return config_; }
  /// Last measurement that was finite [rad], [rad/s].
  const vla_ros_core::JointVector & q() const noexcept { return q_; }
  const vla_ros_core::JointVector & dq() const noexcept { return dq_; }
  /// Value of one of more_state_interfaces(); NaN if it has none.
  double more_state(size_t index) const noexcept;
  /// Period that the controller manager promises [s].
  double nominal_period_s() const noexcept { return nominal_period_s_; }

private:
  bool read_state() noexcept;
  bool write_command(const vla_ros_core::JointVector & command) noexcept;
  double bounded_period(const rclcpp::Duration & period) noexcept;
  void fill(Snapshot & out, int64_t now_ns) const noexcept;
  void set_up();
  void add_services();
  void release() noexcept;

  TargetTopics topics_;
  ArmConfig config_;
  vla_ros_core::JointVector q_;
  vla_ros_core::JointVector dq_;
  std::unique_ptr<Follower> follower_;
  std::unique_ptr<TargetInbox> targets_;
  std::unique_ptr<LoopTiming> timing_;
  std::unique_ptr<StatePublisher> publisher_;
  rclcpp::Service<std_srvs::srv::Trigger>::SharedPtr stop_service_;
  rclcpp::Service<std_srvs::srv::Trigger>::SharedPtr resume_service_;
  double nominal_period_s_ = 1e-3;
  int64_t last_tick_ns_ = 0;
  uint64_t ticks_ = 0;
  uint64_t skipped_ = 0;
  std::unique_ptr<CallbackGate> gate_;  // of the services
};

}  // namespace vla_ros_controllers
