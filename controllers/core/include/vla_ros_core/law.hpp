// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "vla_ros_core/law_config.hpp"

namespace vla_ros_core
{

/// What compute() did.
enum class LawStatus : uint32_t
{
  kOk = 0,
  kTorqueRateLimited,  ///< torque follows the wanted one at the allowed rate
  kTorqueLimited,      ///< torque is at its absolute limit
  kNotFinite,          ///< the law gave NaN or infinity: the previous torque is repeated
  kBadReference,  ///< reference not finite, huge or of no rotation: the last good one is in force
};

/// What the law follows in one tick. Base frame; twists and wrenches linear first, at the end
/// effector, along base axes.
struct LawReference
{
  Pose pose;
  Vector6 twist = Vector6::Zero();         ///< [m/s, rad/s]
  Vector6 acceleration = Vector6::Zero();  ///< [m/s^2, rad/s^2]
  Vector6 wrench = Vector6::Zero();        ///< applied by the arm on the world [N, N·m]
  JointVector q;                           ///< posture, or target of kJoint; empty: config.posture
  JointVector dq;                          ///< empty: at rest
};

/// The control law of one arm.
///
///   kImpedance:         tau = J^T (K clip(e) + D (v* - J dq) + Lambda a* + F*) + N tau_0 + h
///   kOperationalSpace:  tau = J^T (Lambda (K clip(e) + D (v* - J dq) + a*) + F*) + N tau_0 + h
///   kJoint:             tau = K_q clip(q* - q) + D_q (dq* - dq) + J^T F* + h
///
///   h = g + C dq + friction + repulsion from joint limits + damping beyond velocity limits
///   D = Q diag(2 zeta sqrt(lambda)) Q^T with Lambda = Q Q^T, K = Q diag(lambda) Q^T, or the plain
///       2 zeta K^(1/2); plus diag(extra)
///   Lambda = (J M^-1 J^T + r I)^-1, r = 0 unless the arm is close to a singularity
///   (kOperationalSpace with epsilon > 0: Lambda = A (A A + epsilon^2 I)^-1, A = J M^-1 J^T)
///   tau_0 = K_n (q* - q) + D_n (dq* - dq) + gradients, scaled to its limit after projection
///
/// Sources: Sources and derivation: docs/compliant-control.md.
///
/// update() and compute() are noexcept and do not allocate. Thread-safety: one thread; apply() is
/// called from that thread too.
class Law
{
public:
  /// Throws Error naming the field and its range.
  Law(const LawConfig & config, std::shared_ptr<RobotModel> model);
  ~Law();
  Law(const Law &) = delete;
  Law & operator=(const Law &) = delete;

  /// Continue from a torque that is already applied and forget all filters: the next command
  /// differs from `tau` by no more than the rate limit allows.
  void reset(const JointVector & tau) noexcept;

  /// Use another configuration, which validate() has accepted, from the next tick on. Gains are
  /// ramped, everything else takes effect within the torque rate limit.
  void apply(const LawConfig & config) noexcept;

  /// Filter a measurement and update the model with it. False, and nothing changed, if it is not
  /// finite or beyond 1e6.
  bool update(const JointVector & q, const JointVector & dq, double dt_s) noexcept;

  /// Torque for one tick, from the state of the last update().
  LawStatus compute(const LawReference & reference, double dt_s) noexcept;

  /// Torque that only carries the arm and damps it; used when the law itself has failed.
  LawStatus compute_damping(double dt_s) noexcept;

  const JointVector & tau() const noexcept;  ///< [N·m]
  const LawConfig & config() const noexcept;
  const Matrix6 & stiffness() const noexcept;  ///< in force now, between the old and the wanted one
  Matrix6 damping() const noexcept;       ///< in force at the last tick, in the axes of the task
  Matrix6 task_inertia() const noexcept;  ///< Lambda at the last tick, in the axes of the task
  const RobotModel & model() const noexcept;

private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vla_ros_core
