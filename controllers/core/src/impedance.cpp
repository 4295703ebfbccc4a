// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_core/impedance.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>

#include "vla_ros_core/config_check.hpp"

namespace vla_ros_core
{

namespace
{

// Keeps the task inertia finite at singular poses; 1e-4 1/kg is 10 t of apparent mass there.
constexpr double kInertiaRegularisation = 1e-4;

/// Damping matrix for `ratio` about inertia `lambda` and stiffness `k` (double diagonalisation).
/// With G G^T = lambda and the eigenvectors of G^-1 k G^-T, Q = G V gives both factorisations.
Matrix6 damping_matrix(const Matrix6 & lambda, const Matrix6 & k, double ratio) noexcept
{
  const Eigen::LLT<Matrix6> cholesky(lambda);
  Matrix6 g = Matrix6::Zero();
  g.triangularView<Eigen::Lower>() = cholesky.matrixL();
  const Matrix6 half = g.triangularView<Eigen::Lower>().solve(k);
  const Matrix6 normalised = g.triangularView<Eigen::Lower>().solve(half.transpose());
  const Eigen::SelfAdjointEigenSolver<Matrix6> eigen(0.5 * (normalised + normalised.transpose()));
  const Vector6 rates = 2.0 * ratio * eigen.eigenvalues().cwiseMax(0.0).cwiseSqrt();
  const Matrix6 q = g * eigen.eigenvectors();
  return q * rates.asDiagonal() * q.transpose();
}

void check_joint_vector(
  const char * name, const JointVector & value, int n_joints, double low, double high)
{
  if (value.size() != n_joints)
  {
    throw Error(
      std::string(name) + " needs " + std::to_string(n_joints) + " values, got " +
      std::to_string(value.size()));
  }
  for (Eigen::Index i = 0; i < value.size(); ++i)
  {
    check_range(std::string(name) + "[" + std::to_string(i) + "]", value[i], low, high);
  }
}

}  // namespace

void ImpedanceConfig::validate(int n_joints) const
{
  for (int i = 0; i < 6; ++i)
  {
    const std::string place = "[" + std::to_string(i) + "]";
    check_range("stiffness" + place, stiffness[i], 0.0, i < 3 ? 5000.0 : 500.0);
    check_range("error_clip" + place, error_clip[i], 1e-4, i < 3 ? 1.0 : 3.2);
  }
  check_range("damping_ratio", damping_ratio, 0.1, 2.0);
  check_range("nullspace_stiffness", nullspace_stiffness, 0.0, 500.0);
  check_range("nullspace_damping_ratio", nullspace_damping_ratio, 0.0, 2.0);
  check_range("fault_damping", fault_damping, 0.0, 100.0);
  check_joint_vector("posture", posture, n_joints, -7.0, 7.0);
  check_joint_vector("torque_limit", torque_limit, n_joints, 0.1, 1000.0);
  check_joint_vector("torque_rate_limit", torque_rate_limit, n_joints, 1.0, 100000.0);
}

ImpedanceLaw::ImpedanceLaw(const ImpedanceConfig & config, int n_joints)
: config_(config), stiffness_(config.stiffness.asDiagonal())
{
  config_.validate(n_joints);
  tau_.setZero(n_joints);
}

LawStatus ImpedanceLaw::compute(
  const RobotModel & model, const JointVector & q, const JointVector & dq, const Pose & reference,
  const Vector6 & reference_twist, double dt_s) noexcept
{
  const TaskJacobian & jacobian = model.jacobian();
  const Eigen::LLT<JointMatrix> mass(model.mass_matrix());
  Eigen::Matrix<double, Eigen::Dynamic, 6, 0, kMaxJoints, 6> mass_inv_jt = jacobian.transpose();
  mass.solveInPlace(mass_inv_jt);
  Matrix6 inverse_inertia = jacobian * mass_inv_jt;
  inverse_inertia.diagonal().array() += kInertiaRegularisation;
  const Eigen::LLT<Matrix6> inverse_inertia_llt(inverse_inertia);
  const Matrix6 inertia = inverse_inertia_llt.solve(Matrix6::Identity());

  Vector6 error = pose_error(model.ee_pose(), reference);
  error = error.cwiseMin(config_.error_clip).cwiseMax(-config_.error_clip);
  const Matrix6 damping = damping_matrix(inertia, stiffness_, config_.damping_ratio);
  const Vector6 wrench =
    config_.stiffness.cwiseProduct(error) + damping * (reference_twist - model.ee_twist());

  const double d_null =
    2.0 * config_.nullspace_damping_ratio * std::sqrt(config_.nullspace_stiffness);
  const JointVector posture_torque =
    config_.nullspace_stiffness * (config_.posture - q) - d_null * dq;
  const Vector6 leak = inverse_inertia_llt.solve(mass_inv_jt.transpose() * posture_torque);
  JointVector wanted = posture_torque;
  wanted.noalias() += jacobian.transpose() * (wrench - leak);
  if (config_.compensate_gravity) wanted += model.gravity();
  if (config_.compensate_coriolis) wanted += model.coriolis();
  return limit(wanted, dt_s);
}

LawStatus ImpedanceLaw::compute_damping(
  const RobotModel & model, const JointVector & dq, double dt_s) noexcept
{
  JointVector wanted = -config_.fault_damping * dq;
  if (config_.compensate_gravity) wanted += model.gravity();
  return limit(wanted, dt_s);
}

LawStatus ImpedanceLaw::limit(const JointVector & wanted, double dt_s) noexcept
{
  if (!wanted.allFinite()) return LawStatus::kNotFinite;
  LawStatus status = LawStatus::kOk;
  for (Eigen::Index i = 0; i < wanted.size(); ++i)
  {
    const double bound = config_.torque_limit[i];
    const double step = config_.torque_rate_limit[i] * dt_s;
    double tau = std::clamp(wanted[i], -bound, bound);
    if (tau != wanted[i]) status = LawStatus::kTorqueLimited;
    const double limited = std::clamp(tau, tau_[i] - step, tau_[i] + step);
    if (limited != tau && status == LawStatus::kOk) status = LawStatus::kTorqueRateLimited;
    tau_[i] = limited;
  }
  return status;
}

}  // namespace vla_ros_core
