// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_controllers/admittance_controller.hpp"

#include <limits>
#include <pluginlib/class_list_macros.hpp>

#include "admittance_parameters.hpp"
#include "vla_ros_controllers/law_parameters.hpp"
#include "vla_ros_core/realtime.hpp"

namespace vla_ros_controllers
{

using vla_ros_core::AdmittanceConfig;
using vla_ros_core::JointVector;
using vla_ros_core::RobotModel;
using vla_ros_core::Vector6;

namespace
{

/// A command that is held this close to where the arm is goes on; else it is from another time.
constexpr double kHeldCommandTolerance_rad = 0.02;

std::shared_ptr<RobotModel> make_model(const ArmConfig & c, const std::string & urdf)
{
  return std::make_shared<RobotModel>(urdf, c.joints, c.base_frame, c.ee_frame, c.armature);
}

void to_base_axes(const Eigen::Quaterniond & ee_rotation, Vector6 & wrench) noexcept
{
  wrench.head<3>() = ee_rotation * wrench.head<3>();
  wrench.tail<3>() = ee_rotation * wrench.tail<3>();
}

}  // namespace

AdmittanceController::AdmittanceController() : ArmController(TargetTopics{true, true, false}) {}

AdmittanceController::~AdmittanceController() = default;

void AdmittanceController::declare()
{
  parameters_ = std::make_unique<ParameterGuard<admittance::ParamListener>>(get_node());
  parameters_->set_apply([this] { apply_parameters(); });
}

ArmConfig AdmittanceController::arm_config()
{
  const admittance::Params p = parameters_->listener().get_params();
  ArmConfig config = to_arm_config(p);
  fill_motion(p, config.follower);
  return config;
}

AdmittanceConfig AdmittanceController::admittance_config(const JointVector & posture)
{
  const admittance::Params p = parameters_->listener().get_params();
  const Eigen::Index n = posture.size();
  AdmittanceConfig c = AdmittanceConfig::for_joints(static_cast<int>(n));
  c.body.mass = to_matrix6("body.mass", p.body.mass);
  c.body.stiffness = to_matrix6("body.stiffness", p.body.stiffness);
  c.body.damping = to_matrix6("body.damping", p.body.damping);
  if (p.body.use_damping_ratio) c.body.damping_ratio = p.body.damping_ratio;
  c.wrench.force_dead_band_n = p.wrench.force_dead_band_n;
  c.wrench.torque_dead_band_nm = p.wrench.torque_dead_band_nm;
  c.wrench.max_force_n = p.wrench.max_force_n;
  c.wrench.max_torque_nm = p.wrench.max_torque_nm;
  c.wrench.time_constant_s = p.wrench.time_constant_s;
  c.wrench.timeout_s = p.wrench.timeout_s;
  c.wrench.decay_s = p.wrench.decay_s;
  c.limits.speed_m_s = p.limits.speed_m_s;
  c.limits.speed_rad_s = p.limits.speed_rad_s;
  c.limits.offset_m = p.limits.offset_m;
  c.limits.offset_rad = p.limits.offset_rad;
  c.joints.tracking_gain_1_s = p.motion.tracking_gain_1_s;
  c.joints.catch_up_speed_m_s = p.motion.catch_up_speed_m_s;
  c.joints.catch_up_speed_rad_s = p.motion.catch_up_speed_rad_s;
  c.joints.smallest_singular_value = p.motion.smallest_singular_value;
  c.joints.length_m = p.motion.length_m;
  c.joints.posture =
    p.motion.posture.empty() ? posture : per_joint("motion.posture", p.motion.posture, n);
  c.joints.posture_gain_1_s = p.motion.posture_gain_1_s;
  c.joints.posture_speed_rad_s = p.motion.posture_speed_rad_s;
  c.joints.velocity_limit =
    per_joint("motion.velocity_limit_rad_s", p.motion.velocity_limit_rad_s, n);
  c.joints.acceleration_limit =
    per_joint("motion.acceleration_limit_rad_s2", p.motion.acceleration_limit_rad_s2, n);
  c.joints.position_margin_rad = p.motion.position_margin_rad;
  return c;
}

void AdmittanceController::build(const std::string & urdf)
{
  const std::lock_guard<std::mutex> lock(posture_mutex_);
  const admittance::Params p = parameters_->listener().get_params();
  has_sensor_ = !p.force_torque_sensor.empty();
  sensor_in_tool_axes_ = p.wrench_axes == "end_effector";
  commands_velocity_ = p.command_interface == "velocity";
  posture_ = JointVector::Zero(static_cast<Eigen::Index>(config().joints.size()));
  law_ = std::make_unique<vla_ros_core::AdmittanceLaw>(
    admittance_config(posture_), make_model(config(), urdf));
  model_ = make_model(config(), urdf);
}

void AdmittanceController::tear_down()
{
  const std::lock_guard<std::mutex> lock(posture_mutex_);
  law_.reset();
  model_.reset();
}

AdmittanceController::CallbackReturn AdmittanceController::on_configure(
  const rclcpp_lifecycle::State & previous)
{
  wrench_gate_.reset();
  const CallbackReturn result = ArmController::on_configure(previous);
  if (result != CallbackReturn::SUCCESS || has_sensor_) return result;
  wrench_gate_ = std::make_unique<CallbackGate>();
  wrench_topic_ = get_node()->create_subscription<geometry_msgs::msg::WrenchStamped>(
    "measured_wrench", rclcpp::SensorDataQoS().keep_last(1),
    [this, pass = wrench_gate_->pass()](const geometry_msgs::msg::WrenchStamped & message)
    {
      if (const auto open = pass->enter()) on_wrench(message);
    });
  return result;
}

AdmittanceController::CallbackReturn AdmittanceController::on_cleanup(
  const rclcpp_lifecycle::State & previous)
{
  wrench_gate_.reset();
  wrench_topic_.reset();
  return ArmController::on_cleanup(previous);
}

std::string AdmittanceController::command_interface() const
{
  return parameters_->listener().get_params().command_interface;
}

std::vector<std::string> AdmittanceController::more_state_interfaces() const
{
  const std::string name = parameters_->listener().get_params().force_torque_sensor;
  if (name.empty()) return {};
  return {name + "/force.x",  name + "/force.y",  name + "/force.z",
          name + "/torque.x", name + "/torque.y", name + "/torque.z"};
}

void AdmittanceController::apply_parameters()
{
  const std::lock_guard<std::mutex> lock(posture_mutex_);
  if (!model_) return;
  const AdmittanceConfig config = admittance_config(posture_);
  config.validate(model_->n_joints());
  next_config_.write(config);
}

void AdmittanceController::on_wrench(const geometry_msgs::msg::WrenchStamped & message)
{
  const std::string & frame = message.header.frame_id;
  const bool is_tool = frame == config().ee_frame;
  if (!is_tool && frame != config().base_frame)
  {
    RCLCPP_WARN_THROTTLE(
      get_node()->get_logger(), *get_node()->get_clock(), 1000,
      "measured_wrench refused: frame '%s' is neither '%s' nor '%s'", frame.c_str(),
      config().base_frame.c_str(), config().ee_frame.c_str());
    return;
  }
  const auto & f = message.wrench.force;
  const auto & m = message.wrench.torque;
  MeasuredWrench measured;
  measured.wrench << f.x, f.y, f.z, m.x, m.y, m.z;
  measured.received_ns = vla_ros_core::monotonic_ns();
  measured.is_in_tool_axes = is_tool;
  wrench_box_.write(measured);
}

void AdmittanceController::begin(const JointVector & held)
{
  const std::lock_guard<std::mutex> lock(posture_mutex_);
  posture_ = q();
  const AdmittanceConfig config = admittance_config(posture_);
  config.validate(model_->n_joints());
  next_config_.take();
  wrench_box_.take();
  law_->apply(config);
  const bool goes_on = !commands_velocity_ && held.allFinite() &&
                       (held - q()).cwiseAbs().maxCoeff() < kHeldCommandTolerance_rad;
  law_->reset(goes_on ? held : q());
  model_->update(q(), dq(), {false, false, false});
  input_ = vla_ros_core::AdmittanceInput{};
  follower().begin(law_->virtual_pose(), posture_);
}

void AdmittanceController::read_wrench(int64_t now_ns) noexcept
{
  const Eigen::Quaterniond & rotation = model_->ee_pose().rotation;
  if (has_sensor_)
  {
    for (size_t i = 0; i < 6; ++i) input_.wrench[static_cast<Eigen::Index>(i)] = more_state(i);
    input_.wrench_age_s = 0.0;
    if (sensor_in_tool_axes_) to_base_axes(rotation, input_.wrench);
    return;
  }
  wrench_box_.take();
  const MeasuredWrench & measured = wrench_box_.front();
  input_.wrench = measured.wrench;
  if (measured.is_in_tool_axes) to_base_axes(rotation, input_.wrench);
  input_.wrench_age_s = measured.received_ns == 0
                          ? std::numeric_limits<double>::infinity()
                          : 1e-9 * static_cast<double>(now_ns - measured.received_ns);
}

void AdmittanceController::step(
  int64_t now_ns, double dt_s, bool is_measured, Snapshot & out) noexcept
{
  if (next_config_.take()) law_->apply(next_config_.front());
  if (is_measured) model_->update(q(), dq(), {false, false, false});
  read_wrench(now_ns);
  // A hold begins at the reference, not where the force has moved the arm: it will come back.
  follower().update(now_ns, dt_s, follower().reference().pose, posture_);
  const vla_ros_core::LawReference & wanted = follower().reference();
  input_.pose = wanted.pose;
  input_.twist = wanted.twist;
  input_.posture = wanted.q;
  law_->compute(input_, dt_s);
  out.command = commands_velocity_ ? law_->dq() : law_->q();
  out.mode = follower().mode();
  out.pose = model_->ee_pose();
  out.twist = model_->ee_twist();
  out.external_wrench = law_->wrench();
  out.has_external_wrench = true;
}

bool AdmittanceController::end(JointVector & command) noexcept
{
  // A position command stays where it is; a velocity must not stay in force.
  command = JointVector::Zero(model_->n_joints());
  return commands_velocity_;
}

}  // namespace vla_ros_controllers

PLUGINLIB_EXPORT_CLASS(
  vla_ros_controllers::AdmittanceController, controller_interface::ControllerInterface)
