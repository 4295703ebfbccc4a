// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_core/wrench_estimator.hpp"

#include <Eigen/Cholesky>
#include <cmath>

#include "friction.hpp"
#include "joint_check.hpp"
#include "low_pass.hpp"
#include "symmetric_eigen.hpp"

namespace vla_ros_core
{

struct ExternalWrenchEstimator::Impl
{
  WrenchEstimatorConfig config;
  bool has_previous = false;
  JointVector dq;
  JointMatrix mass;
  JointVector bias;  // h of the header
  JointVector bias_now;
  TaskJacobian jacobian;
  JointVector residual;  // r of the header
  JointVector tau_external;
  Vector6 wrench = Vector6::Zero();
  Eigen::LLT<JointMatrix> factor;
  Eigen::Matrix<double, Eigen::Dynamic, 6, 0, kMaxJoints, 6> x;
  SymmetricEigen6 eigen;

  bool is_valid(
    const RobotModel & model, const JointVector & dq_now, const JointVector & tau_applied,
    double dt_s) const noexcept
  {
    const Eigen::Index n = tau_external.size();
    return model.n_joints() == n && dq_now.size() == n && tau_applied.size() == n &&
           dq_now.allFinite() && tau_applied.allFinite() && model.bias().allFinite() &&
           model.mass_matrix().allFinite() && dt_s > 0.0 && dt_s <= config.max_step_s;
  }

  void update_bias(const RobotModel & model, const JointVector & dq_now) noexcept
  {
    if (config.robot_adds_gravity && config.robot_adds_coriolis)
    {
      bias_now.setZero();  // the model then computed neither and bias() is of another time
    }
    else
    {
      bias_now = model.bias();
    }
    if (config.friction.a.size() == 0) return;
    for (Eigen::Index i = 0; i < dq_now.size(); ++i)
    {
      bias_now[i] += friction_torque(config.friction, i, dq_now[i]);
    }
  }

  void update_torque(
    const RobotModel & model, const JointVector & dq_now, const JointVector & tau_applied,
    double dt_s, double part) noexcept
  {
    mass += model.mass_matrix();
    const JointVector change = (0.5 / dt_s) * (dq_now - dq);
    residual = 0.5 * (bias + bias_now) - tau_applied;
    residual.noalias() += mass.lazyProduct(change);
    tau_external += part * (residual - tau_external);
  }

  void update_wrench(const RobotModel & model, double part) noexcept
  {
    factor.compute(model.mass_matrix());
    x = 0.5 * (jacobian + model.jacobian()).transpose();  // r is a mean over the step
    x.rightCols<3>() *= config.length_m;
    factor.matrixL().solveInPlace(x);
    JointVector y = residual;
    factor.matrixL().solveInPlace(y);
    Matrix6 inverse_inertia;
    inverse_inertia.noalias() = x.transpose().lazyProduct(x);
    eigen.update(inverse_inertia);
    const double smallest = 1.0 / config.largest_mass_kg;
    Vector6 w = eigen.vectors().transpose() * (x.transpose() * y);
    w.array() /= eigen.values().array().max(smallest);
    w = (eigen.vectors() * w).eval();
    w.tail<3>() *= config.length_m;
    wrench += part * (w - wrench);
  }
};

void WrenchEstimatorConfig::validate(int n_joints) const
{
  check_range("time_constant_s", time_constant_s, 0.0, 5.0);
  check_friction(friction, n_joints);
  check_range("largest_mass_kg", largest_mass_kg, 1.0, 1e4);
  check_range("length_m", length_m, 0.01, 3.0);
  check_range("max_step_s", max_step_s, 1e-3, 0.5);
}

ExternalWrenchEstimator::ExternalWrenchEstimator(const WrenchEstimatorConfig & config, int n_joints)
: impl_(std::make_unique<Impl>())
{
  check_range("n_joints", n_joints, 1, kMaxJoints);
  config.validate(n_joints);
  impl_->config = config;
  impl_->dq.setZero(n_joints);
  impl_->mass.setZero(n_joints, n_joints);
  impl_->jacobian.setZero(6, n_joints);
  impl_->bias.setZero(n_joints);
  impl_->bias_now.setZero(n_joints);
  impl_->residual.setZero(n_joints);
  impl_->tau_external.setZero(n_joints);
}

ExternalWrenchEstimator::~ExternalWrenchEstimator() = default;

ModelTerms ExternalWrenchEstimator::terms() const noexcept
{
  ModelTerms terms;
  terms.gravity = !impl_->config.robot_adds_gravity;
  terms.coriolis = !impl_->config.robot_adds_coriolis;
  return terms;
}

EstimatorStatus ExternalWrenchEstimator::update(
  const RobotModel & model, const JointVector & dq, const JointVector & tau_applied,
  double dt_s) noexcept
{
  Impl & m = *impl_;
  const bool is_usable = m.is_valid(model, dq, tau_applied, dt_s);
  const bool had_previous = m.has_previous;
  m.has_previous = is_usable;
  if (!is_usable) return EstimatorStatus::kBadInput;
  m.update_bias(model, dq);
  if (had_previous)
  {
    const double part = share(dt_s, m.config.time_constant_s);
    m.update_torque(model, dq, tau_applied, dt_s, part);
    m.update_wrench(model, part);
  }
  m.mass = model.mass_matrix();
  m.jacobian = model.jacobian();
  m.bias = m.bias_now;
  m.dq = dq;
  return had_previous ? EstimatorStatus::kOk : EstimatorStatus::kStarting;
}

void ExternalWrenchEstimator::reset() noexcept
{
  impl_->has_previous = false;
  impl_->tau_external.setZero();
  impl_->wrench.setZero();
}

const JointVector & ExternalWrenchEstimator::tau_external() const noexcept
{
  return impl_->tau_external;
}

const Vector6 & ExternalWrenchEstimator::wrench() const noexcept { return impl_->wrench; }

}  // namespace vla_ros_core
