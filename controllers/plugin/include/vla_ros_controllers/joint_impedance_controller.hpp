// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "vla_ros_controllers/parameter_guard.hpp"
#include "vla_ros_controllers/torque_controller.hpp"

namespace joint_impedance
{
class ParamListener;
}

namespace vla_ros_controllers
{

/// Compliant joints: follows the topic `target_joint`, joints matched by name; `target_wrench` adds
/// a force at the end effector. With all stiffness at zero it carries the arm for hand guiding.
///
/// Targets that stay away for `target_timeout_s` lead to bounded deceleration and a compliant hold.
class JointImpedanceController : public TorqueController
{
public:
  JointImpedanceController();
  ~JointImpedanceController() override;

protected:
  void declare() override;
  ArmConfig arm_config() override;
  vla_ros_core::LawConfig law_config(const vla_ros_core::JointVector & posture) override;
  vla_ros_core::WrenchEstimatorConfig estimator_config() override;

private:
  std::unique_ptr<ParameterGuard<joint_impedance::ParamListener>> parameters_;
};

}  // namespace vla_ros_controllers
