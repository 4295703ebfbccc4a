// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "vla_ros_core/law_config.hpp"
#include "vla_ros_core/robot_model.hpp"

namespace vla_ros_core
{

/// What an update did.
enum class EstimatorStatus : uint32_t
{
  kOk = 0,
  kStarting,  ///< first sample, or the first after a gap: the estimate keeps its value
  kBadInput,  ///< not finite, wrong size or a step outside (0, max_step_s]: as kStarting
};

struct WrenchEstimatorConfig
{
  double time_constant_s = 0.02;     ///< of the low-pass over the estimate, at any rate [s]
  bool robot_adds_gravity = false;   ///< the torque handed in lacks gravity: the robot adds it
  bool robot_adds_coriolis = false;  ///< as above, C(q, dq) dq
  FrictionModel friction;            ///< of the joints; empty: friction shows up in the estimate
  /// In directions in which the arm seems heavier than this, as happens close to a singularity, the
  /// wrench is scaled down to zero at the singularity [kg].
  double largest_mass_kg = 100.0;
  double length_m = 0.3;     ///< makes rotation comparable with translation: m = I / length^2
  double max_step_s = 0.05;  ///< longer gaps between updates start the estimator anew [s]

  /// Throws Error naming the field, its value and its allowed range.
  void validate(int n_joints) const;
};

/// External joint torque and wrench at the end effector from commanded torque and motion only.
///
/// With p = M dq the arm obeys M ddq + h = tau + tau_ext. Over one step the torque tau is held;
/// the trapezoidal rule over that step gives, with no derivative of M and to second order in dt,
///
///   r_k     = (M_k-1 + M_k) / 2 (dq_k - dq_k-1) / dt + (h_k-1 + h_k) / 2 - tau_k-1
///   tau_ext = low-pass of r with the time constant T:  tau_ext += (1 - exp(-dt / T)) (r - tau_ext)
///   wrench  = low-pass of J_bar^T r = Lambda J M^-1 r,  Lambda = (J M^-1 J^T)^-1
///
///   J is the mean over the step too. The wrench is filtered in base axes, not computed from the
///   filtered torque: a constant wrench is then estimated without lag on a moving arm, whose J^T
///   wrench does change.
///
///   h = RobotModel::bias() + friction(dq): what tau has to overcome. A robot that adds gravity
///   itself leaves it out of both: terms() says what the model has to compute.
///
/// Nothing is accumulated: a constant model error is a constant error of tau_ext, never a drift.
/// Known errors: unmodelled friction f enters as tau_ext - f, a wrong payload as its weight; for
/// more than six joints the part of tau_ext that no wrench at the end effector can cause (contact
/// elsewhere on the arm) is partly left out of the wrench.
/// Near singularities Lambda is replaced by V diag(1 / max(l, l_0)) V^T over the eigenvectors V and
/// eigenvalues l of J M^-1 J^T (rotation in units of length_m), l_0 = 1 / largest_mass_kg: the
/// wrench of a torque r is at most sqrt(largest_mass_kg r^T M^-1 r) at any pose (torque part in
/// units of length_m).
///
/// Sources: [DeLuca2006] for the momentum observer, [Khatib1987] for J_bar; the discrete form is
/// derived above. Joint torques (n,) [N·m]; wrench (6,) [N, N·m], force first, at the end effector
/// along base axes, exerted by the world on the arm.
/// Real-time: all but the constructor noexcept, no allocation. Thread-safety: one thread.
class ExternalWrenchEstimator
{
public:
  /// Throws Error naming the field and its range.
  ExternalWrenchEstimator(const WrenchEstimatorConfig & config, int n_joints);
  ~ExternalWrenchEstimator();
  ExternalWrenchEstimator(const ExternalWrenchEstimator &) = delete;
  ExternalWrenchEstimator & operator=(const ExternalWrenchEstimator &) = delete;

  /// What RobotModel::update() must have computed before update() here.
  ModelTerms terms() const noexcept;

  /// `model` is up to date with the joint state (q, dq) of now, `tau_applied` [N·m] acted from the
  /// previous call until now, `dt_s` is the time between the two.
  EstimatorStatus update(
    const RobotModel & model, const JointVector & dq, const JointVector & tau_applied,
    double dt_s) noexcept;

  /// Forget everything; call it after a jump of the state that is no motion.
  void reset() noexcept;

  const JointVector & tau_external() const noexcept;  ///< (n,) [N·m]
  const Vector6 & wrench() const noexcept;            ///< (6,) [N, N·m]

private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vla_ros_core
