// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_core/admittance.hpp"

#include <algorithm>
#include <cmath>

#include "joint_motion.hpp"
#include "low_pass.hpp"
#include "virtual_body.hpp"
#include "vla_ros_core/error.hpp"

namespace vla_ros_core
{

namespace
{

constexpr double kLongestStepS = 0.1;

bool is_valid_reference(const AdmittanceInput & in, Eigen::Index n) noexcept
{
  constexpr double kUnitTolerance = 1e-3;
  return in.pose.position.allFinite() && in.pose.rotation.coeffs().allFinite() &&
         std::abs(in.pose.rotation.norm() - 1.0) <= kUnitTolerance && in.twist.allFinite() &&
         (in.posture.size() == 0 || (in.posture.size() == n && in.posture.allFinite()));
}

bool is_valid_wrench(const AdmittanceInput & in) noexcept
{
  // An infinite age is that of a wrench that never came.
  return in.wrench.allFinite() && in.wrench_age_s >= 0.0;
}

/// Cut a vector to a length; true if that was needed.
template <typename Vector>
bool cut(Vector && v, double length) noexcept
{
  const double norm = v.norm();
  if (!(norm > length)) return false;
  v *= length / norm;
  return true;
}

/// Take a dead band off the length of a vector, then cut it.
template <typename Vector>
void condition(Vector && v, double dead_band, double length) noexcept
{
  const double norm = v.norm();
  if (norm <= dead_band)
  {
    v.setZero();
    return;
  }
  v *= std::min(norm - dead_band, length) / norm;
}

/// Keep an offset within a ball; at its surface no velocity outwards remains.
template <typename Vector>
bool keep_within(Vector && offset, Vector && rate, double radius) noexcept
{
  if (!cut(offset, radius)) return false;
  const double outwards = offset.dot(rate) / (radius * radius);
  if (outwards > 0.0) rate -= outwards * offset;
  return true;
}

}  // namespace

struct AdmittanceLaw::Impl
{
  AdmittanceConfig config;
  std::shared_ptr<RobotModel> model;
  VirtualBodyStep body;
  DifferentialIk ik;
  AdmittanceInput wanted;  // last good reference
  Vector6 wrench = Vector6::Zero();
  Vector6 offset = Vector6::Zero();
  Vector6 rate = Vector6::Zero();
  JointVector q;
  JointVector dq;

  void update_model() noexcept
  {
    ModelTerms terms;
    terms.mass = terms.gravity = terms.coriolis = false;
    model->update(q, dq, terms);
  }

  bool take_reference(const AdmittanceInput & in) noexcept
  {
    if (!is_valid_reference(in, q.size()))
    {
      wanted.twist.setZero();
      return false;
    }
    wanted.pose.position = in.pose.position;
    wanted.pose.rotation = in.pose.rotation.normalized();
    wanted.twist = in.twist;
    wanted.posture = in.posture.size() == 0 ? config.joints.posture : in.posture;
    return true;
  }

  AdmittanceStatus take_wrench(const AdmittanceInput & in, double dt_s) noexcept
  {
    const WrenchInput & c = config.wrench;
    const bool is_good = is_valid_wrench(in);
    const bool is_fresh = is_good && in.wrench_age_s <= c.timeout_s;
    Vector6 target = Vector6::Zero();
    if (is_fresh)
    {
      target = in.wrench;
      condition(target.head<3>(), c.force_dead_band_n, c.max_force_n);
      condition(target.tail<3>(), c.torque_dead_band_nm, c.max_torque_nm);
    }
    const double time_constant_s =
      is_fresh ? c.time_constant_s : std::max(c.time_constant_s, c.decay_s);
    wrench += share(dt_s, time_constant_s) * (target - wrench);
    if (!is_good) return AdmittanceStatus::kBadWrench;
    return is_fresh ? AdmittanceStatus::kOk : AdmittanceStatus::kStaleWrench;
  }

  /// Move the virtual body; false if a limit of its own held it back.
  bool move_body(double dt_s) noexcept
  {
    const VirtualLimits & l = config.limits;
    Vector6 felt = wrench;
    felt.tail<3>() = left_jacobian(offset.tail<3>()).transpose() * wrench.tail<3>();
    Vector6 next = offset;
    body.prepare(config.body, dt_s);
    body.step(next, rate, felt);
    Vector6 move = next - offset;
    bool is_limited = cut(rate.head<3>(), l.speed_m_s);
    is_limited |= cut(rate.tail<3>(), l.speed_rad_s);
    is_limited |= cut(move.head<3>(), l.speed_m_s * dt_s);
    is_limited |= cut(move.tail<3>(), l.speed_rad_s * dt_s);
    offset += move;
    is_limited |= keep_within(offset.head<3>(), rate.head<3>(), l.offset_m);
    is_limited |= keep_within(offset.tail<3>(), rate.tail<3>(), l.offset_rad);
    return !is_limited;
  }

  /// Twist that takes the commanded pose along with the virtual one, which comes from `before`.
  Vector6 wanted_twist(const Pose & before, const Vector6 & old_offset, double dt_s) const noexcept
  {
    const JointMotion & c = config.joints;
    Vector6 pull = c.tracking_gain_1_s * pose_error(model->ee_pose(), before);
    cut(pull.head<3>(), c.catch_up_speed_m_s);
    cut(pull.tail<3>(), c.catch_up_speed_rad_s);
    const Eigen::Quaterniond turn = exp_rotation(offset.tail<3>());
    Vector6 twist = wanted.twist;
    twist.head<3>() += (offset - old_offset).head<3>() / dt_s;
    twist.tail<3>() = turn * wanted.twist.tail<3>() +
                      log_rotation(turn * exp_rotation(old_offset.tail<3>()).conjugate()) / dt_s;
    return twist + pull;
  }

  Pose virtual_pose() const noexcept
  {
    Pose pose;
    pose.position = wanted.pose.position + offset.head<3>();
    pose.rotation = exp_rotation(offset.tail<3>()) * wanted.pose.rotation;
    return pose;
  }
};

AdmittanceLaw::AdmittanceLaw(const AdmittanceConfig & config, std::shared_ptr<RobotModel> model)
: impl_(std::make_unique<Impl>())
{
  if (model == nullptr) throw Error("the admittance law needs a robot model");
  const int n = model->n_joints();
  config.validate(n);
  impl_->config = config;
  impl_->model = std::move(model);
  impl_->q.setZero(n);
  impl_->dq.setZero(n);
  reset(config.joints.posture);
}

AdmittanceLaw::~AdmittanceLaw() = default;

bool AdmittanceLaw::reset(const JointVector & q) noexcept
{
  Impl & m = *impl_;
  if (q.size() != m.q.size() || !q.allFinite()) return false;
  m.q = q;
  m.dq.setZero();
  m.offset.setZero();
  m.rate.setZero();
  m.wrench.setZero();
  m.update_model();
  m.wanted.pose = m.model->ee_pose();
  m.wanted.twist.setZero();
  m.wanted.posture = m.config.joints.posture;
  return true;
}

void AdmittanceLaw::apply(const AdmittanceConfig & config) noexcept
{
  impl_->config = config;
  impl_->body.forget();
}

AdmittanceStatus AdmittanceLaw::compute(const AdmittanceInput & input, double dt_s) noexcept
{
  Impl & m = *impl_;
  if (!(dt_s > 0.0 && dt_s <= kLongestStepS)) return AdmittanceStatus::kNotFinite;
  const bool has_reference = m.take_reference(input);
  const AdmittanceStatus wrench_status = m.take_wrench(input, dt_s);
  const Pose before = m.virtual_pose();
  const Vector6 old_offset = m.offset;
  const bool is_free = m.move_body(dt_s);
  m.update_model();
  const JointBounds bounds = joint_bounds(m.config.joints, *m.model, m.q, dt_s);
  JointVector dq = m.ik.solve(
    m.config.joints, m.model->jacobian(), m.wanted_twist(before, old_offset, dt_s), m.q,
    m.wanted.posture, bounds);
  const bool is_finite = dq.allFinite();
  if (!is_finite) dq.setZero();
  const bool is_limited = limit_joint_motion(m.config.joints, bounds, m.dq, dt_s, dq);
  m.dq = dq;
  m.q += dt_s * dq;
  if (!is_finite) return AdmittanceStatus::kNotFinite;
  if (!has_reference) return AdmittanceStatus::kBadReference;
  if (wrench_status != AdmittanceStatus::kOk) return wrench_status;
  if (is_limited) return AdmittanceStatus::kJointLimited;
  return is_free ? AdmittanceStatus::kOk : AdmittanceStatus::kVirtualLimited;
}

const JointVector & AdmittanceLaw::q() const noexcept { return impl_->q; }
const JointVector & AdmittanceLaw::dq() const noexcept { return impl_->dq; }
Pose AdmittanceLaw::virtual_pose() const noexcept { return impl_->virtual_pose(); }
const Vector6 & AdmittanceLaw::offset() const noexcept { return impl_->offset; }
const Vector6 & AdmittanceLaw::offset_rate() const noexcept { return impl_->rate; }
const Vector6 & AdmittanceLaw::wrench() const noexcept { return impl_->wrench; }

}  // namespace vla_ros_core
