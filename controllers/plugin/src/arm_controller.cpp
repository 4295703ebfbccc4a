// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_controllers/arm_controller.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "vla_ros_controllers/compat.hpp"
#include "vla_ros_controllers/robot_description.hpp"
#include "vla_ros_core/realtime.hpp"

namespace vla_ros_controllers
{

using controller_interface::interface_configuration_type;
using controller_interface::InterfaceConfiguration;
using std_srvs::srv::Trigger;
using vla_ros_core::JointVector;

namespace
{

constexpr double kDescriptionTimeout_s = 5.0;
/// A longer gap between two ticks is treated as one of this many periods, so that no limit per
/// second opens wide after a stall.
constexpr double kLongestGap = 10.0;

std::vector<std::string> interface_names(
  const std::vector<std::string> & joints, const std::vector<std::string> & kinds)
{
  std::vector<std::string> names;
  for (const std::string & kind : kinds)
  {
    for (const std::string & joint : joints) names.push_back(joint + "/" + kind);
  }
  return names;
}

}  // namespace

InterfaceConfiguration ArmController::command_interface_configuration() const
{
  return {
    interface_configuration_type::INDIVIDUAL,
    interface_names(config_.joints, {command_interface()})};
}

InterfaceConfiguration ArmController::state_interface_configuration() const
{
  std::vector<std::string> names = interface_names(config_.joints, {"position", "velocity"});
  for (const std::string & name : more_state_interfaces()) names.push_back(name);
  return {interface_configuration_type::INDIVIDUAL, names};
}

ArmController::CallbackReturn ArmController::on_init()
{
  try
  {
    declare();
  }
  catch (const std::exception & error)
  {
    RCLCPP_ERROR(get_node()->get_logger(), "parameters refused: %s", error.what());
    return CallbackReturn::ERROR;
  }
  return CallbackReturn::SUCCESS;
}

void ArmController::set_up()
{
  auto & node = *get_node();
  config_ = arm_config();
  const unsigned int rate_hz = get_update_rate();
  nominal_period_s_ = rate_hz > 0 ? 1.0 / rate_hz : 1e-3;
  const auto n = static_cast<Eigen::Index>(config_.joints.size());
  q_.setZero(n);
  dq_.setZero(n);
  const std::string urdf =
    find_robot_description(node, compat::description_of(*this), kDescriptionTimeout_s);
  const vla_ros_core::RobotModel model(
    urdf, config_.joints, config_.base_frame, config_.ee_frame, config_.armature);
  follower_ = std::make_unique<Follower>(
    config_.follower,
    vla_ros_core::TargetNames::of_arm(model, config_.base_frame, config_.ee_frame, config_.joints));
  build(urdf);
  targets_ = std::make_unique<TargetInbox>(node, topics_, follower_->targets());
  timing_ = std::make_unique<LoopTiming>();
  publisher_ = std::make_unique<StatePublisher>(
    node,
    PublisherConfig{
      config_.joints, config_.base_frame, config_.publish_rate_hz, command_interface()},
    *targets_, follower_->segment_counters(), *timing_);
}

void ArmController::add_services()
{
  gate_ = std::make_unique<CallbackGate>();
  stop_service_ = get_node()->create_service<Trigger>(
    "~/stop",
    [this, pass = gate_->pass()](
      const Trigger::Request::SharedPtr, const Trigger::Response::SharedPtr answer)
    {
      const auto open = pass->enter();
      if (!open) return;
      follower_->authority().request_stop();
      answer->success = true;
      answer->message = "brakes and holds until resumed";
    });
  resume_service_ = get_node()->create_service<Trigger>(
    "~/resume",
    [this, pass = gate_->pass()](
      const Trigger::Request::SharedPtr, const Trigger::Response::SharedPtr answer)
    {
      const auto open = pass->enter();
      if (!open) return;
      follower_->authority().request_resume();
      answer->success = true;
    });
}

ArmController::CallbackReturn ArmController::on_configure(const rclcpp_lifecycle::State &)
{
  release();
  try
  {
    set_up();
  }
  catch (const std::exception & error)
  {
    RCLCPP_ERROR(get_node()->get_logger(), "cannot be configured: %s", error.what());
    release();
    return CallbackReturn::FAILURE;
  }
  add_services();
  return CallbackReturn::SUCCESS;
}

ArmController::CallbackReturn ArmController::on_activate(const rclcpp_lifecycle::State &)
{
  if (!read_state())
  {
    RCLCPP_ERROR(get_node()->get_logger(), "joint positions or velocities are not finite");
    return CallbackReturn::FAILURE;
  }
  JointVector held(q_.size());
  for (Eigen::Index i = 0; i < held.size(); ++i)
  {
    held[i] = compat::read(command_interfaces_[static_cast<size_t>(i)]);
  }
  try
  {
    begin(held);
  }
  catch (const std::exception & error)
  {
    RCLCPP_ERROR(get_node()->get_logger(), "cannot be activated: %s", error.what());
    return CallbackReturn::FAILURE;
  }
  targets_->set_active(true);
  last_tick_ns_ = 0;
  return CallbackReturn::SUCCESS;
}

ArmController::CallbackReturn ArmController::on_deactivate(const rclcpp_lifecycle::State &)
{
  targets_->set_active(false);
  JointVector command;
  if (end(command)) write_command(command);
  return CallbackReturn::SUCCESS;
}

ArmController::CallbackReturn ArmController::on_cleanup(const rclcpp_lifecycle::State &)
{
  release();
  return CallbackReturn::SUCCESS;
}

void ArmController::release() noexcept
{
  gate_.reset();
  stop_service_.reset();
  resume_service_.reset();
  publisher_.reset();
  targets_.reset();
  timing_.reset();
  tear_down();
  follower_.reset();
}

double ArmController::more_state(size_t index) const noexcept
{
  return compat::read(state_interfaces_[2 * static_cast<size_t>(q_.size()) + index]);
}

bool ArmController::read_state() noexcept
{
  const Eigen::Index n = q_.size();
  JointVector q(n);
  JointVector dq(n);
  for (Eigen::Index i = 0; i < n; ++i)
  {
    q[i] = compat::read(state_interfaces_[static_cast<size_t>(i)]);
    dq[i] = compat::read(state_interfaces_[static_cast<size_t>(n + i)]);
  }
  if (!q.allFinite() || !dq.allFinite()) return false;
  q_ = q;
  dq_ = dq;
  return true;
}

bool ArmController::write_command(const JointVector & command) noexcept
{
  bool is_written = true;
  for (Eigen::Index i = 0; i < command.size(); ++i)
  {
    is_written &= compat::write(command_interfaces_[static_cast<size_t>(i)], command[i]);
  }
  return is_written;
}

double ArmController::bounded_period(const rclcpp::Duration & period) noexcept
{
  const double dt_s = period.seconds();
  if (!(dt_s > 0.0)) return nominal_period_s_;
  if (dt_s > 1.5 * nominal_period_s_)
  {
    skipped_ += static_cast<uint64_t>(std::lround(dt_s / nominal_period_s_)) - 1;
  }
  return std::min(dt_s, kLongestGap * nominal_period_s_);
}

void ArmController::fill(Snapshot & out, int64_t now_ns) const noexcept
{
  const vla_ros_core::Authority & authority = follower_->authority();
  out.tick_ns = now_ns;
  out.q = q_;
  out.dq = dq_;
  out.epoch = authority.epoch();
  std::strncpy(out.source.data(), authority.source(), out.source.size() - 1);
  out.expired_brakes = follower_->expired_brakes();
  out.rows_after_expiry = follower_->rows_after_expiry();
  out.ticks = ticks_;
  out.skipped = skipped_;
}

controller_interface::return_type ArmController::update(
  const rclcpp::Time &, const rclcpp::Duration & period)
{
  const int64_t now_ns = vla_ros_core::monotonic_ns();
  if (last_tick_ns_ != 0) timing_->period.add(now_ns - last_tick_ns_);
  last_tick_ns_ = now_ns;
  ++ticks_;
  const bool is_measured = read_state();
  Snapshot & out = publisher_->next();
  step(now_ns, bounded_period(period), is_measured, out);
  write_command(out.command);
  fill(out, now_ns);
  publisher_->publish();
  timing_->compute.add(vla_ros_core::monotonic_ns() - now_ns);
  return controller_interface::return_type::OK;
}

}  // namespace vla_ros_controllers
