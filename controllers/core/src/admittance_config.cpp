// SPDX-License-Identifier: Apache-2.0
#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <string>

#include "joint_check.hpp"
#include "vla_ros_core/admittance.hpp"

namespace vla_ros_core
{

namespace
{

void check_symmetric(
  const std::string & name, const Matrix6 & m, double low_trans, double low_rot, double high_trans,
  double high_rot)
{
  if (!m.allFinite()) throw Error(name + " must be finite");
  const double scale = std::max(1e-3, m.cwiseAbs().maxCoeff());
  if ((m - m.transpose()).cwiseAbs().maxCoeff() > 1e-9 * scale)
  {
    throw Error(name + " must be symmetric");
  }
  for (int i = 0; i < 6; ++i)
  {
    const std::string place = std::to_string(i);
    check_range(
      name + "[" + place + "," + place + "]", m(i, i), i < 3 ? low_trans : low_rot,
      i < 3 ? high_trans : high_rot);
  }
}

double smallest_eigenvalue(const Matrix6 & m)
{
  return Eigen::SelfAdjointEigenSolver<Matrix6>(m, Eigen::EigenvaluesOnly).eigenvalues()[0];
}

void check_eigenvalues(const std::string & name, const Matrix6 & m)
{
  const double smallest = smallest_eigenvalue(m);
  if (smallest >= -1e-9 * std::max(1.0, m.cwiseAbs().maxCoeff())) return;
  throw Error(name + " must have no negative eigenvalue, got " + std::to_string(smallest));
}

void check_body(const VirtualBody & b)
{
  check_symmetric("body.mass", b.mass, 0.1, 0.01, 100.0, 10.0);
  const Vector6 unit = b.mass.diagonal().cwiseSqrt().cwiseInverse();
  check_range(
    "smallest eigenvalue of body.mass scaled to a diagonal of ones",
    smallest_eigenvalue(unit.asDiagonal() * b.mass * unit.asDiagonal()), 1e-3, 1.0 + 1e-9);
  check_symmetric("body.stiffness", b.stiffness, 0.0, 0.0, 5000.0, 500.0);
  check_eigenvalues("body.stiffness", b.stiffness);
  if (b.damping_ratio)
  {
    check_range("body.damping_ratio", *b.damping_ratio, 0.1, 5.0);
  }
  else
  {
    check_symmetric("body.damping", b.damping, 0.0, 0.0, 5000.0, 500.0);
    check_eigenvalues("body.damping", b.damping);
  }
  // Without any damping a body that is once in motion never stops.
  const Eigen::LLT<Matrix6> factor(b.mass);
  const Matrix6 half = factor.matrixL().solve(b.damping_in_force());
  const Matrix6 rate = factor.matrixL().solve(half.transpose());
  check_range(
    "smallest eigenvalue [1/s] of damping over mass",
    smallest_eigenvalue(0.5 * (rate + rate.transpose())), 0.1, 1e9);
}

void check_wrench(const WrenchInput & w)
{
  check_range("wrench.force_dead_band_n", w.force_dead_band_n, 0.0, 50.0);
  check_range("wrench.torque_dead_band_nm", w.torque_dead_band_nm, 0.0, 10.0);
  check_range("wrench.max_force_n", w.max_force_n, 1.0, 2000.0);
  check_range("wrench.max_torque_nm", w.max_torque_nm, 0.1, 500.0);
  check_range("wrench.time_constant_s", w.time_constant_s, 0.0, 5.0);
  check_range("wrench.timeout_s", w.timeout_s, 1e-3, 10.0);
  check_range("wrench.decay_s", w.decay_s, 0.0, 5.0);
}

void check_limits(const VirtualLimits & l)
{
  check_range("limits.speed_m_s", l.speed_m_s, 1e-3, 3.0);
  check_range("limits.speed_rad_s", l.speed_rad_s, 1e-3, 10.0);
  check_range("limits.offset_m", l.offset_m, 1e-3, 2.0);
  check_range("limits.offset_rad", l.offset_rad, 1e-3, 2.5);
}

void check_motion(const JointMotion & j, int n)
{
  check_range("joints.tracking_gain_1_s", j.tracking_gain_1_s, 0.1, 50.0);
  check_range("joints.catch_up_speed_m_s", j.catch_up_speed_m_s, 1e-3, 3.0);
  check_range("joints.catch_up_speed_rad_s", j.catch_up_speed_rad_s, 1e-3, 10.0);
  check_range("joints.smallest_singular_value", j.smallest_singular_value, 1e-3, 1.0);
  check_range("joints.length_m", j.length_m, 0.01, 3.0);
  check_joints("joints.posture", j.posture, n, -7.0, 7.0);
  check_range("joints.posture_gain_1_s", j.posture_gain_1_s, 0.0, 10.0);
  check_range("joints.posture_speed_rad_s", j.posture_speed_rad_s, 1e-3, 10.0);
  check_joints("joints.velocity_limit", j.velocity_limit, n, 0.01, 100.0);
  check_joints("joints.acceleration_limit", j.acceleration_limit, n, 0.1, 1000.0);
  check_range("joints.position_margin_rad", j.position_margin_rad, 0.0, 0.5);
}

}  // namespace

AdmittanceConfig AdmittanceConfig::for_joints(int n_joints)
{
  AdmittanceConfig config;
  config.joints.posture = JointVector::Zero(n_joints);
  config.joints.velocity_limit = JointVector::Constant(n_joints, 1.0);
  config.joints.acceleration_limit = JointVector::Constant(n_joints, 10.0);
  return config;
}

void AdmittanceConfig::validate(int n_joints) const
{
  check_body(body);
  check_wrench(wrench);
  check_limits(limits);
  check_motion(joints, n_joints);
}

}  // namespace vla_ros_core
