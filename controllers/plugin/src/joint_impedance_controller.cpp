// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_controllers/joint_impedance_controller.hpp"

#include <pluginlib/class_list_macros.hpp>

#include "joint_impedance_parameters.hpp"
#include "vla_ros_controllers/law_parameters.hpp"

namespace vla_ros_controllers
{

using vla_ros_core::LawConfig;

JointImpedanceController::JointImpedanceController()
: TorqueController(TargetTopics{false, true, true})
{
}

JointImpedanceController::~JointImpedanceController() = default;

void JointImpedanceController::declare()
{
  parameters_ = std::make_unique<ParameterGuard<joint_impedance::ParamListener>>(get_node());
  parameters_->set_apply([this] { apply_parameters(); });
}

ArmConfig JointImpedanceController::arm_config()
{
  const joint_impedance::Params p = parameters_->listener().get_params();
  ArmConfig config = to_arm_config(p);
  fill_wrench_limits(p, config.follower);
  return config;
}

vla_ros_core::WrenchEstimatorConfig JointImpedanceController::estimator_config()
{
  return to_estimator_config(parameters_->listener().get_params());
}

LawConfig JointImpedanceController::law_config(const vla_ros_core::JointVector & posture)
{
  const joint_impedance::Params p = parameters_->listener().get_params();
  const Eigen::Index n = posture.size();
  LawConfig c = LawConfig::for_joints(static_cast<int>(n));
  fill_law(p, n, c);
  c.kind = vla_ros_core::LawKind::kJoint;
  c.damping_design = to_damping_design(p.joint.damping_design);
  c.gains.joint_stiffness = per_joint("joint.stiffness", p.joint.stiffness, n);
  c.gains.joint_damping_ratio = p.joint.damping_ratio;
  c.gains.joint_extra_damping = per_joint("joint.extra_damping", p.joint.extra_damping, n);
  c.gains.joint_error_clip_rad = p.joint.error_clip_rad;
  c.posture = posture;
  return c;
}

}  // namespace vla_ros_controllers

PLUGINLIB_EXPORT_CLASS(
  vla_ros_controllers::JointImpedanceController, controller_interface::ControllerInterface)
