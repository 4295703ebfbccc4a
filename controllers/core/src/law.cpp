// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_core/law.hpp"

#include <Eigen/Cholesky>
#include <algorithm>
#include <cmath>

#include "law_kernel.hpp"
#include "low_pass.hpp"
#include "vla_ros_core/error.hpp"

namespace vla_ros_core
{

namespace
{

template <typename Vector>
void approach(Vector & value, const Vector & wanted, double part) noexcept
{
  value += part * (wanted - value);
}

void approach(double & value, double wanted, double part) noexcept
{
  value += part * (wanted - value);
}

// Larger than any position, speed, force or torque of an arm, and small enough that no filter
// overflows: one that did would stay NaN.
constexpr double kHuge = 1e6;

/// False for NaN too.
template <typename Vector>
bool is_sane(const Vector & v) noexcept
{
  return (v.array().abs() <= kHuge).all();
}

bool is_usable(const JointVector & v, Eigen::Index n) noexcept
{
  return v.size() == 0 || (v.size() == n && is_sane(v));
}

bool is_valid(const LawReference & r, Eigen::Index n) noexcept
{
  constexpr double kUnitTolerance = 1e-3;
  return is_sane(r.pose.position) && is_sane(r.pose.rotation.coeffs()) &&
         std::abs(r.pose.rotation.norm() - 1.0) <= kUnitTolerance && is_sane(r.twist) &&
         is_sane(r.acceleration) && is_sane(r.wrench) && is_usable(r.q, n) && is_usable(r.dq, n);
}

std::unique_ptr<LawKernelBase> make_kernel(int n_joints)
{
  if (n_joints == 6) return std::make_unique<LawKernel<6>>();
  if (n_joints == 7) return std::make_unique<LawKernel<7>>();
  return std::make_unique<LawKernel<Eigen::Dynamic>>();
}

}  // namespace

struct Law::Impl
{
  LawConfig config;
  std::shared_ptr<RobotModel> model;
  std::unique_ptr<LawKernelBase> kernel;
  LawState state;
  LawReference wanted;  // last good reference, filtered
  JointVector tau;
  JointVector tau_filtered;
  JointVector q;
  JointVector dq;
  bool has_measurement = false;
  bool has_reference = false;

  void begin_reference() noexcept
  {
    wanted.pose = model->ee_pose();
    wanted.twist.setZero();
    wanted.acceleration.setZero();
    wanted.wrench.setZero();
    wanted.q = config.posture;
    wanted.dq.setZero(model->n_joints());
    has_reference = true;
  }

  void filter_reference(const LawReference & r, double dt_s) noexcept
  {
    const LawFilters & f = config.filters;
    const double part = share(dt_s, f.target_s);
    if (part >= 1.0)
    {
      wanted.pose = r.pose;
    }
    else
    {
      approach(wanted.pose.position, r.pose.position, part);
      wanted.pose.rotation = wanted.pose.rotation.slerp(part, r.pose.rotation);
    }
    wanted.twist = r.twist;
    wanted.acceleration = r.acceleration;
    approach(wanted.wrench, r.wrench, share(dt_s, f.wrench_s));
    const double posture_part = share(dt_s, f.posture_s);
    approach(wanted.q, r.q.size() == 0 ? config.posture : r.q, posture_part);
    if (r.dq.size() == 0)
    {
      wanted.dq.setZero();
    }
    else
    {
      wanted.dq = r.dq;
    }
  }

  /// Gains follow the configuration; a spring under tension may only be stiffened as fast as the
  /// allowed power permits.
  void ramp_gains(const Vector6 & error, double dt_s) noexcept
  {
    if (state.is_settled) return;
    const LawGains & to = config.gains;
    LawGains & g = state.gains;
    const double part = share(dt_s, config.gain_ramp_s);
    Matrix6 step = part * (to.stiffness - g.stiffness);
    const double work_j = 0.5 * error.dot(step * error);
    const double allowed_j = config.stiffening_power_w * dt_s;
    if (config.gain_ramp_s > 0.0 && work_j > allowed_j) step *= allowed_j / work_j;
    g.stiffness += step;
    approach(g.damping_ratio, to.damping_ratio, part);
    approach(g.extra_damping, to.extra_damping, part);
    approach(g.error_clip, to.error_clip, part);
    approach(g.nullspace_stiffness, to.nullspace_stiffness, part);
    approach(g.nullspace_damping_ratio, to.nullspace_damping_ratio, part);
    approach(g.nullspace_torque_limit_nm, to.nullspace_torque_limit_nm, part);
    approach(g.manipulability_gain, to.manipulability_gain, part);
    approach(g.limit_avoidance_gain, to.limit_avoidance_gain, part);
    approach(g.joint_stiffness, to.joint_stiffness, part);
    approach(g.joint_damping_ratio, to.joint_damping_ratio, part);
    approach(g.joint_extra_damping, to.joint_extra_damping, part);
    approach(g.joint_error_clip_rad, to.joint_error_clip_rad, part);
    settle_gains();
    state.stiffness_changed = true;
  }

  /// Stop ramping once nothing is left to ramp: the common tick then costs nothing.
  void settle_gains() noexcept
  {
    constexpr double kClose = 1e-9;
    const LawGains & to = config.gains;
    const double left =
      (to.stiffness - state.gains.stiffness).cwiseAbs().maxCoeff() +
      (to.joint_stiffness - state.gains.joint_stiffness).cwiseAbs().maxCoeff() +
      (to.nullspace_stiffness - state.gains.nullspace_stiffness).cwiseAbs().maxCoeff() +
      (to.error_clip - state.gains.error_clip).cwiseAbs().maxCoeff() +
      (to.extra_damping - state.gains.extra_damping).cwiseAbs().maxCoeff() +
      (to.joint_extra_damping - state.gains.joint_extra_damping).cwiseAbs().maxCoeff() +
      std::abs(to.damping_ratio - state.gains.damping_ratio) +
      std::abs(to.nullspace_torque_limit_nm - state.gains.nullspace_torque_limit_nm);
    if (left > kClose) return;
    state.gains = to;
    state.is_settled = true;
  }

  LawStatus limit(const JointVector & desired, double dt_s) noexcept
  {
    if (!desired.allFinite()) return LawStatus::kNotFinite;
    const JointVector bounded = desired.cwiseMin(kHuge).cwiseMax(-kHuge);
    approach(tau_filtered, bounded, share(dt_s, config.filters.torque_s));
    LawStatus status = LawStatus::kOk;
    for (Eigen::Index i = 0; i < tau.size(); ++i)
    {
      const double bound = config.torque_limit[i];
      const double step = config.torque_rate_limit[i] * dt_s;
      const double within = std::clamp(tau_filtered[i], -bound, bound);
      if (within != tau_filtered[i]) status = LawStatus::kTorqueLimited;
      const double limited = std::clamp(within, tau[i] - step, tau[i] + step);
      if (limited != within && status == LawStatus::kOk) status = LawStatus::kTorqueRateLimited;
      tau[i] = limited;
    }
    return status;
  }

  ModelTerms model_terms() const noexcept
  {
    ModelTerms terms;
    terms.gravity = config.compensate_gravity;
    terms.coriolis = config.compensate_coriolis;
    terms.mass = needs_mass(config, model->n_joints());
    return terms;
  }
};

Law::Law(const LawConfig & config, std::shared_ptr<RobotModel> model)
: impl_(std::make_unique<Impl>())
{
  if (model == nullptr) throw Error("the law needs a robot model");
  const int n = model->n_joints();
  config.validate(n);
  impl_->config = config;
  impl_->model = std::move(model);
  impl_->kernel = make_kernel(n);
  impl_->state.gains = config.gains;
  impl_->state.is_settled = true;
  impl_->state.stiffness_changed = true;
  impl_->wanted.q = config.posture;
  impl_->wanted.dq.setZero(n);
  impl_->q.setZero(n);
  impl_->dq.setZero(n);
  reset(JointVector::Zero(n));
}

Law::~Law() = default;

void Law::reset(const JointVector & tau) noexcept
{
  impl_->tau = tau;
  impl_->tau_filtered = tau;
  impl_->has_measurement = false;
  impl_->has_reference = false;
  impl_->state.gains = impl_->config.gains;
  impl_->state.is_settled = true;
  impl_->state.stiffness_changed = true;
}

void Law::apply(const LawConfig & config) noexcept
{
  impl_->config = config;
  impl_->state.is_settled = false;
}

bool Law::update(const JointVector & q, const JointVector & dq, double dt_s) noexcept
{
  Impl & m = *impl_;
  if (q.size() != m.q.size() || dq.size() != m.q.size() || !is_sane(q) || !is_sane(dq))
  {
    return false;
  }
  const LawFilters & f = m.config.filters;
  approach(m.q, q, m.has_measurement ? share(dt_s, f.position_s) : 1.0);
  approach(m.dq, dq, m.has_measurement ? share(dt_s, f.velocity_s) : 1.0);
  m.has_measurement = true;
  m.model->update(m.q, m.dq, m.model_terms());
  return true;
}

LawStatus Law::compute(const LawReference & reference, double dt_s) noexcept
{
  Impl & m = *impl_;
  if (!m.has_reference) m.begin_reference();
  const bool is_good = is_valid(reference, m.q.size());
  if (is_good)
  {
    m.filter_reference(reference, dt_s);
  }
  else
  {
    // As if it had not arrived: the last good one stays in force, at rest.
    m.wanted.twist.setZero();
    m.wanted.acceleration.setZero();
    m.wanted.dq.setZero();
  }
  Vector6 error = pose_error(m.model->ee_pose(), m.wanted.pose);
  if (m.config.axes == TaskAxes::kEndEffector)
  {
    const Eigen::Matrix3d to_tool = m.model->ee_pose().rotation.toRotationMatrix().transpose();
    error.head<3>() = to_tool * error.head<3>();
    error.tail<3>() = to_tool * error.tail<3>();
  }
  error = error.cwiseMin(m.state.gains.error_clip).cwiseMax(-m.state.gains.error_clip);
  m.ramp_gains(error, dt_s);
  if (!m.wanted.acceleration.isZero(0.0)) m.model->require_mass();
  const LawStatus status =
    m.limit(m.kernel->compute(m.config, m.state, *m.model, m.q, m.dq, m.wanted, error), dt_s);
  return is_good || status == LawStatus::kNotFinite ? status : LawStatus::kBadReference;
}

LawStatus Law::compute_damping(double dt_s) noexcept
{
  Impl & m = *impl_;
  JointVector desired = -m.config.fault_damping * m.dq;
  if (m.config.compensate_gravity) desired += m.model->gravity_only(m.q);
  return m.limit(desired, dt_s);
}

const JointVector & Law::tau() const noexcept { return impl_->tau; }
const LawConfig & Law::config() const noexcept { return impl_->config; }
const Matrix6 & Law::stiffness() const noexcept { return impl_->state.gains.stiffness; }
const RobotModel & Law::model() const noexcept { return *impl_->model; }
Matrix6 Law::damping() const noexcept
{
  return impl_->kernel->damping(impl_->config, impl_->state);
}
Matrix6 Law::task_inertia() const noexcept { return impl_->kernel->task_inertia(); }

}  // namespace vla_ros_core
