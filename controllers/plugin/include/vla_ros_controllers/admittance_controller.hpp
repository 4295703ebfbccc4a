// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <geometry_msgs/msg/wrench_stamped.hpp>
#include <memory>
#include <mutex>
#include <rclcpp/subscription.hpp>
#include <string>
#include <vector>

#include "vla_ros_controllers/arm_controller.hpp"
#include "vla_ros_controllers/parameter_guard.hpp"
#include "vla_ros_controllers/triple_buffer.hpp"
#include "vla_ros_core/admittance.hpp"

namespace admittance
{
class ParamListener;
}

namespace vla_ros_controllers
{

/// A wrench exerted by the world on the arm, at the end effector, and when it was received.
struct MeasuredWrench
{
  vla_ros_core::Vector6 wrench = vla_ros_core::Vector6::Zero();  ///< [N, N·m]
  int64_t received_ns = 0;                                       ///< CLOCK_MONOTONIC
  bool is_in_tool_axes = false;
};

/// Compliance for robots that take joint positions or velocities: a virtual body yields to the
/// wrench of a force/torque sensor, and the joints follow it.
///
/// Follows segments or `target_pose`, as CartesianImpedanceController; `target_joint` moves the
/// posture of redundant arms. The wrench comes from the state interfaces of a sensor, or from the
/// topic `measured_wrench` in the base frame or along the axes of the end effector.
class AdmittanceController : public ArmController
{
public:
  AdmittanceController();
  ~AdmittanceController() override;
  CallbackReturn on_configure(const rclcpp_lifecycle::State & previous) override;
  CallbackReturn on_cleanup(const rclcpp_lifecycle::State & previous) override;

protected:
  void declare() override;
  ArmConfig arm_config() override;
  void build(const std::string & urdf) override;
  void tear_down() override;
  std::string command_interface() const override;
  std::vector<std::string> more_state_interfaces() const override;
  void begin(const vla_ros_core::JointVector & held) override;
  void step(int64_t now_ns, double dt_s, bool is_measured, Snapshot & out) noexcept override;
  bool end(vla_ros_core::JointVector & command) noexcept override;

private:
  void apply_parameters();
  vla_ros_core::AdmittanceConfig admittance_config(const vla_ros_core::JointVector & posture);
  void on_wrench(const geometry_msgs::msg::WrenchStamped & message);
  void read_wrench(int64_t now_ns) noexcept;

  std::unique_ptr<ParameterGuard<admittance::ParamListener>> parameters_;
  std::shared_ptr<vla_ros_core::RobotModel> model_;  // at the measured joints
  std::unique_ptr<vla_ros_core::AdmittanceLaw> law_;
  std::mutex posture_mutex_;  // parameters change in other threads; never taken by update()
  vla_ros_core::JointVector posture_;
  TripleBuffer<vla_ros_core::AdmittanceConfig> next_config_;
  rclcpp::Subscription<geometry_msgs::msg::WrenchStamped>::SharedPtr wrench_topic_;
  TripleBuffer<MeasuredWrench> wrench_box_;
  vla_ros_core::AdmittanceInput input_;
  bool has_sensor_ = false;
  bool sensor_in_tool_axes_ = true;
  bool commands_velocity_ = false;
  std::unique_ptr<CallbackGate> wrench_gate_;
};

}  // namespace vla_ros_controllers
