// SPDX-License-Identifier: Apache-2.0
// The arithmetic of the law for a number of joints known at compile time (6, 7) or at run time.
#pragma once

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>

#include "friction.hpp"
#include "symmetric_root.hpp"
#include "vla_ros_core/law.hpp"

namespace vla_ros_core
{

/// What the law carries from tick to tick.
struct LawState
{
  LawGains gains;  ///< in force now
  bool is_settled = true;
  bool stiffness_changed = true;
};

inline bool needs_mass(const LawConfig & c, Eigen::Index n_joints) noexcept
{
  if (c.damping_design == DampingDesign::kInertiaAware) return true;
  if (c.kind == LawKind::kOperationalSpace) return true;
  return c.kind == LawKind::kImpedance && c.projector == Projector::kDynamic && n_joints > 6;
}

class LawKernelBase
{
public:
  virtual ~LawKernelBase() = default;
  /// Wanted torque before limits. `error` is clipped and in the axes of the task.
  virtual JointVector compute(
    const LawConfig & config, LawState & state, const RobotModel & model, const JointVector & q,
    const JointVector & dq, const LawReference & wanted, const Vector6 & error) noexcept = 0;
  virtual Matrix6 damping(const LawConfig & config, const LawState & state) const noexcept = 0;
  virtual Matrix6 task_inertia() const noexcept = 0;
};

template <int N>
class LawKernel final : public LawKernelBase
{
  static constexpr int kMax = N == Eigen::Dynamic ? kMaxJoints : N;
  using Joints = Eigen::Matrix<double, N, 1, 0, kMax, 1>;
  using Square = Eigen::Matrix<double, N, N, 0, kMax, kMax>;
  using Jacobian = Eigen::Matrix<double, 6, N, 0, 6, kMax>;
  using JacobianT = Eigen::Matrix<double, N, 6, 0, kMax, 6>;
  using ConstJoints = Eigen::Map<const Joints>;

  // Keeps Lambda finite at singular poses without touching it elsewhere: what is missing of the
  // smallest pivot of J M^-1 J^T to this value [1/kg, 1/(kg·m^2)] is added to its diagonal.
  static constexpr double kSmallestPivot = 3e-4;

public:
  JointVector compute(
    const LawConfig & config, LawState & state, const RobotModel & model, const JointVector & q_in,
    const JointVector & dq_in, const LawReference & wanted, const Vector6 & error) noexcept override
  {
    const Eigen::Index n = q_in.size();
    const ConstJoints q(q_in.data(), n);
    const ConstJoints dq(dq_in.data(), n);
    jacobian_ = Eigen::Map<const Jacobian>(model.jacobian().data(), 6, n);
    Vector6 wrench = wanted.wrench;
    Vector6 twist_error = wanted.twist - model.ee_twist();
    Vector6 acceleration = wanted.acceleration;
    if (config.axes == TaskAxes::kEndEffector)
    {
      const Eigen::Matrix3d to_tool = model.ee_pose().rotation.toRotationMatrix().transpose();
      rotate(to_tool, jacobian_);
      rotate(to_tool, wrench);
      rotate(to_tool, twist_error);
      rotate(to_tool, acceleration);
    }
    const bool has_acceleration = !wanted.acceleration.isZero(0.0);
    if (has_acceleration || needs_mass(config, n)) factor(model);
    Joints tau = bias(config, model, n);
    if (config.kind == LawKind::kJoint)
    {
      tau += joint_torque(config, state.gains, model, q, dq, wanted);
    }
    else
    {
      wrench += task_wrench(config, state, error, twist_error, acceleration);
      add_posture(config, state.gains, model, q, dq, wanted, tau);
    }
    tau.noalias() += jacobian_.transpose() * wrench;
    add_friction(config, dq, tau);
    add_limits(config, model, q, dq, tau);
    return tau;
  }

  Matrix6 damping(const LawConfig & config, const LawState & state) const noexcept override
  {
    Matrix6 d = state.gains.extra_damping.asDiagonal();
    if (is_designed(config))
    {
      const Matrix6 half = task_.matrixU().solve(root_.matrix());
      d += 2.0 * state.gains.damping_ratio * task_.matrixU().solve(half.transpose());
    }
    else
    {
      d += 2.0 * state.gains.damping_ratio * plain_root_;
    }
    return d;
  }

  Matrix6 task_inertia() const noexcept override { return task_.solve(Matrix6::Identity()); }

private:
  template <typename Matrix>
  static void rotate(const Eigen::Matrix3d & rotation, Matrix & m) noexcept
  {
    m.template topRows<3>() = (rotation * m.template topRows<3>()).eval();
    m.template bottomRows<3>() = (rotation * m.template bottomRows<3>()).eval();
  }

  static bool is_designed(const LawConfig & config) noexcept
  {
    // Decoupled by Lambda, every direction has unit mass: there the plain design is the right one.
    return config.damping_design == DampingDesign::kInertiaAware &&
           config.kind == LawKind::kImpedance;
  }

  /// L L^T = M, X = L^-1 J^T, A = J M^-1 J^T = X^T X = U^T U.
  void factor(const RobotModel & model) noexcept
  {
    const Eigen::Index n = jacobian_.cols();
    mass_.compute(Eigen::Map<const Square>(model.mass_matrix().data(), n, n));
    x_ = jacobian_.transpose();
    mass_.matrixL().solveInPlace(x_);
    inverse_inertia_.noalias() = x_.transpose() * x_;
    task_.compute(inverse_inertia_);
    const double pivot = task_.matrixLLT().diagonal().cwiseAbs2().minCoeff();
    if (task_.info() == Eigen::Success && pivot >= kSmallestPivot) return;
    Matrix6 safe = inverse_inertia_;
    const double missing = kSmallestPivot - (task_.info() == Eigen::Success ? pivot : 0.0);
    safe.diagonal().array() += missing;
    task_.compute(safe);
  }

  Vector6 task_wrench(
    const LawConfig & config, LawState & state, const Vector6 & error, const Vector6 & twist_error,
    const Vector6 & acceleration) noexcept
  {
    const LawGains & g = state.gains;
    Vector6 wrench = g.stiffness * error + g.extra_damping.cwiseProduct(twist_error);
    if (is_designed(config))
    {
      // G = U^-1 gives Lambda = G G^T and G^-1 K G^-T = U K U^T.
      root_.update(task_.matrixLLT(), g.stiffness);  // its upper triangle is U
      Vector6 v = twist_error;
      task_.matrixL().solveInPlace(v);  // G^T v
      v = root_ * v;
      task_.matrixU().solveInPlace(v);  // G v
      wrench += 2.0 * g.damping_ratio * v;
    }
    else
    {
      if (state.stiffness_changed) update_plain_root(g.stiffness);
      state.stiffness_changed = false;
      wrench += 2.0 * g.damping_ratio * (plain_root_ * twist_error);
    }
    if (config.kind == LawKind::kOperationalSpace)
    {
      return times_inertia(config, wrench + acceleration);
    }
    if (!acceleration.isZero(0.0)) wrench += task_.solve(acceleration);
    return wrench;
  }

  void update_plain_root(const Matrix6 & stiffness) noexcept
  {
    SymmetricRoot6 root;
    root.update(Matrix6::Identity(), stiffness);
    plain_root_ = root.matrix();
  }

  Vector6 times_inertia(const LawConfig & config, const Vector6 & v) const noexcept
  {
    const double epsilon = config.operational_regularisation;
    if (epsilon <= 0.0) return task_.solve(v);
    Matrix6 square;
    square.noalias() = inverse_inertia_ * inverse_inertia_;
    square.diagonal().array() += epsilon * epsilon;
    return Eigen::LLT<Matrix6>(square).solve(inverse_inertia_ * v);
  }

  Joints joint_torque(
    const LawConfig & config, const LawGains & g, const RobotModel & model, const ConstJoints & q,
    const ConstJoints & dq, const LawReference & wanted) const noexcept
  {
    const Eigen::Index n = q.size();
    const ConstJoints target(wanted.q.data(), n);
    const ConstJoints target_rate(wanted.dq.data(), n);
    const ConstJoints k(g.joint_stiffness.data(), n);
    const double clip = g.joint_error_clip_rad;
    const Joints error = (target - q).cwiseMin(clip).cwiseMax(-clip);
    Joints inertia = Joints::Ones(n);
    if (config.damping_design == DampingDesign::kInertiaAware)
    {
      inertia = Eigen::Map<const Square>(model.mass_matrix().data(), n, n).diagonal();
    }
    const Joints d = 2.0 * g.joint_damping_ratio * k.cwiseProduct(inertia).cwiseSqrt() +
                     ConstJoints(g.joint_extra_damping.data(), n);
    return k.cwiseProduct(error) + d.cwiseProduct(target_rate - dq);
  }

  void add_posture(
    const LawConfig & config, const LawGains & g, const RobotModel & model, const ConstJoints & q,
    const ConstJoints & dq, const LawReference & wanted, Joints & tau) noexcept
  {
    const Eigen::Index n = q.size();
    // Six joints leave the task no freedom; projecting their posture torque would give rounding.
    if (n <= 6 && config.projector != Projector::kNone) return;
    const ConstJoints k(g.nullspace_stiffness.data(), n);
    Joints posture = k.cwiseProduct(ConstJoints(wanted.q.data(), n) - q);
    posture += 2.0 * g.nullspace_damping_ratio *
               k.cwiseSqrt().cwiseProduct(ConstJoints(wanted.dq.data(), n) - dq);
    if (g.manipulability_gain > 0.0)
    {
      posture += g.manipulability_gain * manipulability_gradient();
    }
    if (g.limit_avoidance_gain > 0.0) add_avoidance(g, model, q, posture);
    if (config.projector == Projector::kDynamic)
    {
      Joints y = posture;
      mass_.matrixL().solveInPlace(y);
      posture.noalias() -= jacobian_.transpose() * task_.solve(x_.transpose() * y);
    }
    else if (config.projector == Projector::kKinematic)
    {
      const double epsilon = config.kinematic_regularisation;
      Matrix6 square;
      square.noalias() = jacobian_ * jacobian_.transpose();
      square.diagonal().array() += epsilon * epsilon;
      posture.noalias() -=
        jacobian_.transpose() * Eigen::LLT<Matrix6>(square).solve(jacobian_ * posture);
    }
    // Scaled as a whole: clipping single joints after the projection would reach the task again.
    const double largest = posture.cwiseAbs().maxCoeff();
    if (largest > g.nullspace_torque_limit_nm) posture *= g.nullspace_torque_limit_nm / largest;
    tau += posture;
  }

  /// Gradient of m = sqrt(det(J J^T)): entry i is m tr(J^+ dJ/dq_i).
  Joints manipulability_gradient() const noexcept
  {
    const Eigen::Index n = jacobian_.cols();
    Matrix6 square;
    square.noalias() = jacobian_ * jacobian_.transpose();
    square.diagonal().array() += 1e-12;  // keeps the inverse finite where m is 0
    const Eigen::LLT<Matrix6> llt(square);
    const double measure = llt.matrixLLT().diagonal().prod();
    const Jacobian pinv_t = measure * llt.solve(jacobian_);  // m (J^+)^T
    Joints gradient = Joints::Zero(n);
    for (Eigen::Index i = 0; i < n; ++i)
    {
      const Eigen::Vector3d vi = jacobian_.template block<3, 1>(0, i);
      const Eigen::Vector3d wi = jacobian_.template block<3, 1>(3, i);
      for (Eigen::Index j = 0; j < n; ++j)
      {
        const Eigen::Vector3d vj = jacobian_.template block<3, 1>(0, j);
        const Eigen::Vector3d wj = jacobian_.template block<3, 1>(3, j);
        const Eigen::Vector3d pv = pinv_t.template block<3, 1>(0, j);
        gradient[i] +=
          i <= j ? pv.dot(wi.cross(vj)) + pinv_t.template block<3, 1>(3, j).dot(wi.cross(wj))
                 : pv.dot(wj.cross(vi));
      }
    }
    return gradient;
  }

  static void add_avoidance(
    const LawGains & g, const RobotModel & model, const ConstJoints & q, Joints & posture) noexcept
  {
    for (Eigen::Index i = 0; i < q.size(); ++i)
    {
      const double low = model.q_min()[i];
      const double high = model.q_max()[i];
      if (!std::isfinite(low) || !std::isfinite(high)) continue;
      const double offset = (q[i] - 0.5 * (low + high)) / (0.5 * (high - low));
      posture[i] -= g.limit_avoidance_gain * offset * std::abs(offset);
    }
  }

  static Joints bias(const LawConfig & config, const RobotModel & model, Eigen::Index n) noexcept
  {
    if (!config.compensate_gravity && !config.compensate_coriolis) return Joints::Zero(n);
    return ConstJoints(model.bias().data(), n);
  }

  static void add_friction(const LawConfig & config, const ConstJoints & dq, Joints & tau) noexcept
  {
    const FrictionModel & f = config.friction;
    if (f.a.size() != dq.size() || config.friction_scale <= 0.0) return;
    for (Eigen::Index i = 0; i < dq.size(); ++i)
    {
      tau[i] += config.friction_scale * friction_torque(f, i, dq[i]);
    }
  }

  static void add_limits(
    const LawConfig & config, const RobotModel & model, const ConstJoints & q,
    const ConstJoints & dq, Joints & tau) noexcept
  {
    for (Eigen::Index i = 0; i < q.size(); ++i)
    {
      const double range = config.limit_range_rad;
      const double into_low = range - (q[i] - model.q_min()[i]);
      const double into_high = range - (model.q_max()[i] - q[i]);
      if (into_low > 0.0) tau[i] += config.limit_torque_nm * std::min(1.0, into_low / range);
      if (into_high > 0.0) tau[i] -= config.limit_torque_nm * std::min(1.0, into_high / range);
      if (config.velocity_limit.size() == q.size())
      {
        const double excess = std::abs(dq[i]) - config.velocity_limit[i];
        if (excess > 0.0) tau[i] -= config.velocity_limit_damping * std::copysign(excess, dq[i]);
      }
    }
  }

  Jacobian jacobian_;
  JacobianT x_;
  Eigen::LLT<Square> mass_;
  Eigen::LLT<Matrix6, Eigen::Upper> task_{Matrix6(Matrix6::Identity())};
  Matrix6 inverse_inertia_ = Matrix6::Identity();
  SymmetricRoot6 root_;
  Matrix6 plain_root_ = Matrix6::Zero();
};

}  // namespace vla_ros_core
