// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_controllers/torque_controller.hpp"

namespace vla_ros_controllers
{

using vla_ros_core::JointVector;
using vla_ros_core::LawConfig;
using vla_ros_core::LawStatus;
using vla_ros_core::Mode;
using vla_ros_core::RobotModel;

namespace
{

constexpr int kFailuresToFault = 5;

}  // namespace

void TorqueController::build(const std::string & urdf)
{
  const std::lock_guard<std::mutex> lock(posture_mutex_);
  const ArmConfig & c = config();
  const auto n = static_cast<int>(c.joints.size());
  const auto make_model = [&c, &urdf]
  { return std::make_shared<RobotModel>(urdf, c.joints, c.base_frame, c.ee_frame, c.armature); };
  posture_ = JointVector::Zero(n);
  auto model = make_model();
  law_ = std::make_unique<vla_ros_core::Law>(law_config(posture_), model);
  estimator_ = std::make_unique<vla_ros_core::ExternalWrenchEstimator>(estimator_config(), n);
  estimator_model_ = make_model();
  model_ = std::move(model);
}

void TorqueController::tear_down()
{
  const std::lock_guard<std::mutex> lock(posture_mutex_);
  law_.reset();
  estimator_.reset();
  model_.reset();
  estimator_model_.reset();
}

void TorqueController::apply_parameters()
{
  const std::lock_guard<std::mutex> lock(posture_mutex_);
  if (!model_) return;
  const LawConfig config = law_config(posture_);
  config.validate(model_->n_joints());
  next_config_.write(config);
}

void TorqueController::begin(const JointVector & held)
{
  const std::lock_guard<std::mutex> lock(posture_mutex_);
  posture_ = q();
  const LawConfig config = law_config(posture_);
  config.validate(model_->n_joints());
  next_config_.take();
  law_->apply(config);
  law_->reset(held.array().isFinite().select(held, JointVector::Zero(held.size())));
  law_->update(q(), dq(), nominal_period_s());
  estimator_->reset();
  follower().begin(model_->ee_pose(), posture_);
  consecutive_failures_ = 0;
  is_fault_ = false;
}

void TorqueController::step(int64_t now_ns, double dt_s, bool is_measured, Snapshot & out) noexcept
{
  if (next_config_.take()) law_->apply(next_config_.front());
  estimate_wrench(dt_s, is_measured, out);
  if (is_measured) law_->update(q(), dq(), dt_s);
  follower().update(now_ns, dt_s, model_->ee_pose(), law_->config().posture);
  run_law(dt_s, is_measured);
  out.mode = is_fault_ ? Mode::kFault : follower().mode();
  out.command = law_->tau();
  out.pose = model_->ee_pose();
  out.twist = model_->ee_twist();
}

void TorqueController::estimate_wrench(double dt_s, bool is_measured, Snapshot & out) noexcept
{
  if (is_measured)
  {
    estimator_model_->update(q(), dq(), estimator_->terms());
    // The torque of the tick before is what has acted since then.
    estimator_->update(*estimator_model_, dq(), law_->tau(), dt_s);
  }
  else
  {
    // The next measurement is more than one period away from the last: nothing to compare with.
    estimator_->reset();
  }
  out.external_wrench = estimator_->wrench();
  out.has_external_wrench = true;
}

void TorqueController::run_law(double dt_s, bool is_measured) noexcept
{
  if (is_fault_)
  {
    law_->compute_damping(dt_s);
    return;
  }
  // Without a measurement the torque of the tick before stays in force.
  if (is_measured && law_->compute(follower().reference(), dt_s) != LawStatus::kNotFinite)
  {
    consecutive_failures_ = 0;
    return;
  }
  follower().release();
  if (++consecutive_failures_ >= kFailuresToFault) is_fault_ = true;
}

bool TorqueController::end(JointVector & command) noexcept
{
  // Carry the arm until another controller or the brakes take over; no spring that pulls on alone.
  command = law_->config().compensate_gravity ? model_->gravity_only(q())
                                              : JointVector::Zero(model_->n_joints());
  return command.allFinite();
}

}  // namespace vla_ros_controllers
