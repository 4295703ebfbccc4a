// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "vla_ros_controllers/parameter_guard.hpp"
#include "vla_ros_controllers/torque_controller.hpp"

namespace cartesian_impedance
{
class ParamListener;
}

namespace vla_ros_controllers
{

/// Compliant end effector: follows segments from shared memory, or the topic `target_pose`;
/// `target_joint` moves the posture in the nullspace, `target_wrench` adds a force.
///
/// Targets that stay away for `target_timeout_s`, or a segment that ends, lead to bounded
/// deceleration and a compliant hold where the arm is then.
class CartesianImpedanceController : public TorqueController
{
public:
  CartesianImpedanceController();
  ~CartesianImpedanceController() override;

protected:
  void declare() override;
  ArmConfig arm_config() override;
  vla_ros_core::LawConfig law_config(const vla_ros_core::JointVector & posture) override;
  vla_ros_core::WrenchEstimatorConfig estimator_config() override;

private:
  std::unique_ptr<ParameterGuard<cartesian_impedance::ParamListener>> parameters_;
};

}  // namespace vla_ros_controllers
