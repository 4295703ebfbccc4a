// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_core/law_config.hpp"

#include <Eigen/Eigenvalues>
#include <string>

#include "joint_check.hpp"

namespace vla_ros_core
{

namespace
{

void check_axes(
  const std::string & name, const Vector6 & value, double low, double high_trans, double high_rot)
{
  for (int i = 0; i < 6; ++i)
  {
    check_range(name + "[" + std::to_string(i) + "]", value[i], low, i < 3 ? high_trans : high_rot);
  }
}

void check_stiffness(const Matrix6 & k)
{
  if (!k.allFinite()) throw Error("stiffness must be finite");
  const double scale = std::max(1.0, k.cwiseAbs().maxCoeff());
  if ((k - k.transpose()).cwiseAbs().maxCoeff() > 1e-9 * scale)
  {
    throw Error("stiffness must be symmetric");
  }
  for (int i = 0; i < 6; ++i)
  {
    const std::string place = std::to_string(i);
    check_range("stiffness[" + place + "," + place + "]", k(i, i), 0.0, i < 3 ? 5000.0 : 500.0);
  }
  const Eigen::SelfAdjointEigenSolver<Matrix6> eigen(k, Eigen::EigenvaluesOnly);
  const double smallest = eigen.eigenvalues()[0];
  if (smallest < -1e-9 * scale)
  {
    throw Error(
      "stiffness must have no negative eigenvalue, got " + std::to_string(smallest) +
      ": such a spring would push away");
  }
}

void check_gains(const LawGains & g, int n)
{
  check_stiffness(g.stiffness);
  check_range("damping_ratio", g.damping_ratio, 0.0, 2.0);
  check_axes("extra_damping", g.extra_damping, 0.0, 1000.0, 100.0);
  check_axes("error_clip", g.error_clip, 1e-4, 1.0, 3.2);
  check_joints("nullspace_stiffness", g.nullspace_stiffness, n, 0.0, 500.0);
  check_range("nullspace_damping_ratio", g.nullspace_damping_ratio, 0.0, 2.0);
  check_range("nullspace_torque_limit_nm", g.nullspace_torque_limit_nm, 0.0, 1000.0);
  check_range("manipulability_gain", g.manipulability_gain, 0.0, 50.0);
  check_range("limit_avoidance_gain", g.limit_avoidance_gain, 0.0, 50.0);
  check_joints("joint_stiffness", g.joint_stiffness, n, 0.0, 5000.0);
  check_range("joint_damping_ratio", g.joint_damping_ratio, 0.0, 2.0);
  check_joints("joint_extra_damping", g.joint_extra_damping, n, 0.0, 200.0);
  check_range("joint_error_clip_rad", g.joint_error_clip_rad, 1e-4, 3.2);
}

void check_filters(const LawFilters & f)
{
  check_range("filters.position_s", f.position_s, 0.0, 0.1);
  check_range("filters.velocity_s", f.velocity_s, 0.0, 0.1);
  check_range("filters.target_s", f.target_s, 0.0, 5.0);
  check_range("filters.posture_s", f.posture_s, 0.0, 5.0);
  check_range("filters.wrench_s", f.wrench_s, 0.0, 5.0);
  check_range("filters.torque_s", f.torque_s, 0.0, 0.1);
}

void check_enums(const LawConfig & c)
{
  check_range("kind", static_cast<double>(c.kind), 0, 2);
  check_range("damping_design", static_cast<double>(c.damping_design), 0, 1);
  check_range("projector", static_cast<double>(c.projector), 0, 2);
  check_range("axes", static_cast<double>(c.axes), 0, 1);
}

}  // namespace

LawGains LawGains::for_joints(int n_joints)
{
  LawGains g;
  g.stiffness = (Vector6() << 800, 800, 800, 40, 40, 40).finished().asDiagonal();
  g.error_clip << 0.05, 0.05, 0.05, 0.4, 0.4, 0.4;
  g.nullspace_stiffness = JointVector::Constant(n_joints, 8.0);
  g.joint_stiffness = JointVector::Constant(n_joints, 100.0);
  g.joint_extra_damping = JointVector::Zero(n_joints);
  return g;
}

LawConfig LawConfig::for_joints(int n_joints)
{
  LawConfig c;
  c.gains = LawGains::for_joints(n_joints);
  c.posture = JointVector::Zero(n_joints);
  return c;
}

void LawConfig::validate(int n_joints) const
{
  check_enums(*this);
  check_gains(gains, n_joints);
  check_filters(filters);
  check_range("gain_ramp_s", gain_ramp_s, 0.0, 10.0);
  check_range("stiffening_power_w", stiffening_power_w, 0.01, 1000.0);
  check_joints("posture", posture, n_joints, -7.0, 7.0);
  check_range("kinematic_regularisation", kinematic_regularisation, 1e-6, 1.0);
  check_range("operational_regularisation", operational_regularisation, 0.0, 1.0);
  check_friction(friction, n_joints);
  check_range("friction_scale", friction_scale, 0.0, 1.0);
  check_range("limit_range_rad", limit_range_rad, 1e-3, 1.0);
  check_range("limit_torque_nm", limit_torque_nm, 0.0, 100.0);
  if (velocity_limit.size() != 0)
  {
    check_joints("velocity_limit", velocity_limit, n_joints, 0.01, 100.0);
  }
  check_range("velocity_limit_damping", velocity_limit_damping, 0.0, 1000.0);
  check_joints("torque_limit", torque_limit, n_joints, 0.1, 1000.0);
  check_joints("torque_rate_limit", torque_rate_limit, n_joints, 1.0, 1e5);
  check_range("fault_damping", fault_damping, 0.0, 100.0);
}

}  // namespace vla_ros_core
