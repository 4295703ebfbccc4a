// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_controllers/cartesian_impedance_controller.hpp"

#include <pluginlib/class_list_macros.hpp>

#include "cartesian_impedance_parameters.hpp"
#include "vla_ros_controllers/law_parameters.hpp"

namespace vla_ros_controllers
{

using vla_ros_core::LawConfig;
using vla_ros_core::Projector;

namespace
{

Projector to_projector(const std::string & name)
{
  if (name == "kinematic") return Projector::kKinematic;
  return name == "none" ? Projector::kNone : Projector::kDynamic;
}

}  // namespace

CartesianImpedanceController::CartesianImpedanceController()
: TorqueController(TargetTopics{true, true, true})
{
}

CartesianImpedanceController::~CartesianImpedanceController() = default;

void CartesianImpedanceController::declare()
{
  parameters_ = std::make_unique<ParameterGuard<cartesian_impedance::ParamListener>>(get_node());
  parameters_->set_apply([this] { apply_parameters(); });
}

ArmConfig CartesianImpedanceController::arm_config()
{
  const cartesian_impedance::Params p = parameters_->listener().get_params();
  ArmConfig config = to_arm_config(p);
  fill_motion(p, config.follower);
  fill_wrench_limits(p, config.follower);
  return config;
}

vla_ros_core::WrenchEstimatorConfig CartesianImpedanceController::estimator_config()
{
  return to_estimator_config(parameters_->listener().get_params());
}

LawConfig CartesianImpedanceController::law_config(const vla_ros_core::JointVector & posture)
{
  const cartesian_impedance::Params p = parameters_->listener().get_params();
  const Eigen::Index n = posture.size();
  LawConfig c = LawConfig::for_joints(static_cast<int>(n));
  fill_law(p, n, c);
  c.kind = p.law == "operational_space" ? vla_ros_core::LawKind::kOperationalSpace
                                        : vla_ros_core::LawKind::kImpedance;
  c.axes = p.task.axes == "end_effector" ? vla_ros_core::TaskAxes::kEndEffector
                                         : vla_ros_core::TaskAxes::kBase;
  c.damping_design = to_damping_design(p.task.damping_design);
  c.operational_regularisation = p.task.operational_regularisation;
  c.gains.stiffness = to_matrix6("task.stiffness", p.task.stiffness);
  c.gains.damping_ratio = p.task.damping_ratio;
  c.gains.extra_damping = to_vector6("task.extra_damping", p.task.extra_damping);
  c.gains.error_clip = to_vector6("task.error_clip", p.task.error_clip);
  c.projector = to_projector(p.nullspace.projector);
  c.kinematic_regularisation = p.nullspace.regularisation;
  c.gains.nullspace_stiffness = per_joint("nullspace.stiffness", p.nullspace.stiffness, n);
  c.gains.nullspace_damping_ratio = p.nullspace.damping_ratio;
  c.gains.nullspace_torque_limit_nm = p.nullspace.torque_limit_nm;
  c.gains.manipulability_gain = p.nullspace.manipulability_gain;
  c.gains.limit_avoidance_gain = p.nullspace.limit_avoidance_gain;
  c.posture =
    p.nullspace.posture.empty() ? posture : per_joint("nullspace.posture", p.nullspace.posture, n);
  return c;
}

}  // namespace vla_ros_controllers

PLUGINLIB_EXPORT_CLASS(
  vla_ros_controllers::CartesianImpedanceController, controller_interface::ControllerInterface)
