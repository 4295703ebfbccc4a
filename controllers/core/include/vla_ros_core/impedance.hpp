// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vla_ros_core/robot_model.hpp"

namespace vla_ros_core
{

/// Gains and limits of the Cartesian impedance law.
struct ImpedanceConfig
{
  Vector6 stiffness = (Vector6() << 800, 800, 800, 40, 40, 40).finished();  ///< [N/m, N·m/rad]
  double damping_ratio = 1.0;  ///< [-], about the task-space inertia
  Vector6 error_clip = (Vector6() << 0.05, 0.05, 0.05, 0.4, 0.4, 0.4).finished();  ///< [m, rad]
  double nullspace_stiffness = 8.0;                                                ///< [N·m/rad]
  double nullspace_damping_ratio = 1.0;
  JointVector posture;            ///< [rad], one per joint
  JointVector torque_limit;       ///< [N·m]
  JointVector torque_rate_limit;  ///< [N·m/s]
  double fault_damping = 5.0;     ///< [N·m·s/rad] joint damping in kFault
  bool compensate_gravity = true;
  bool compensate_coriolis = true;

  /// Throws Error naming the field and its allowed range.
  void validate(int n_joints) const;
};

/// What compute() did.
enum class LawStatus : uint32_t
{
  kOk = 0,
  kTorqueRateLimited,  ///< torque follows the wanted one at the allowed rate
  kTorqueLimited,      ///< torque is at its absolute limit
  kNotFinite,          ///< the law gave NaN or infinity: the previous torque is repeated
};

/// Cartesian impedance with posture in the nullspace, feed-forward of the reference twist and model
/// compensation:
///
///   tau = J^T (K clip(e) + D (v_ref - J dq)) + N tau_posture + g + C dq
///   D   = Q diag(2 zeta sqrt(lambda)) Q^T  with  Lambda = Q Q^T, K = Q diag(lambda) Q^T
///   N   = I - J^T Lambda J M^-1            (dynamically consistent)
///
/// Reference: [Khatib1987]; damping design by double diagonalisation [AlbuSchaeffer2003].
/// Real-time: compute() is noexcept and allocation-free.
class ImpedanceLaw
{
public:
  ImpedanceLaw(const ImpedanceConfig & config, int n_joints);

  /// Continue from a torque that is already applied, so that the first command is continuous.
  void reset(const JointVector & tau) noexcept { tau_ = tau; }

  /// Compute the torque for one tick from an updated model.
  LawStatus compute(
    const RobotModel & model, const JointVector & q, const JointVector & dq, const Pose & reference,
    const Vector6 & reference_twist, double dt_s) noexcept;

  /// Torque that only carries the arm and damps it; used when the law itself has failed.
  LawStatus compute_damping(const RobotModel & model, const JointVector & dq, double dt_s) noexcept;

  const JointVector & tau() const noexcept { return tau_; }

private:
  LawStatus limit(const JointVector & wanted, double dt_s) noexcept;

  ImpedanceConfig config_;
  JointVector tau_;
  Matrix6 stiffness_;
};

}  // namespace vla_ros_core
