// SPDX-License-Identifier: Apache-2.0
#include "arm_channel.hpp"

#include "vla_ros_core/error.hpp"
#include "vla_ros_core/realtime.hpp"

namespace vla_ros_core
{

namespace
{

constexpr int kFailuresToFault = 5;
constexpr uint32_t kStateSlots = 2048;  // two seconds at 1 kHz: anchors of slow policies stay there

void copy_pose(const Pose & pose, double * position, double * quat_xyzw) noexcept
{
  Eigen::Map<Eigen::Vector3d>{position} = pose.position;
  Eigen::Map<Eigen::Vector4d>{quat_xyzw} = pose.rotation.coeffs();
}

WrenchEstimatorConfig estimator_config(const ArmSetup & arm)
{
  WrenchEstimatorConfig config;
  config.robot_adds_gravity = arm.robot_adds_gravity;
  config.friction = arm.law.friction;
  return config;
}

/// A spring that appears must not pull to where somebody has led the arm away from.
bool needs_new_hold(const LawConfig & old_law, const LawConfig & law) noexcept
{
  if (old_law.kind != law.kind) return true;
  const auto before = old_law.gains.stiffness.diagonal();
  const auto after = law.gains.stiffness.diagonal();
  return ((before.array() == 0.0) && (after.array() > 0.0)).any();
}

}  // namespace

ArmChannel::ArmChannel(
  const ControlHostConfig & config, const ArmSetup & arm, const std::string & suffix,
  HostCounters & counters)
: workspace_(config.workspace),
  initial_gripper_width_m_(config.initial_gripper_width_m),
  model_(arm.model),
  rows_(config.plant_joint_names, arm.names.joint_names),
  counters_(counters),
  segments_(config, suffix, config.segment_limits, counters),
  reference_(config.reference),
  stream_(config.target, arm.names),
  law_(arm.law, arm.model),
  estimator_(estimator_config(arm), arm.model->n_joints()),
  state_ring_(
    ShmRing::create(config.shm_prefix + ".state" + suffix, kStateSlots, sizeof(StateRecord), 0))
{
  const int n = model_->n_joints();
  if (rows_.size() != n)
  {
    throw Error("joint_names of an arm needs " + std::to_string(n) + " names");
  }
  workspace_.validate();
  q_.setZero(n);
  dq_.setZero(n);
  q_hold_.setZero(n);
  tau_before_.setZero(n);
  law_reference_.q = arm.law.posture;
}

void ArmChannel::begin(const Measurement & plant) noexcept
{
  rows_.read(plant, q_, dq_);
  model_->update(q_, dq_);
  reference_.reset(model_->ee_pose(), initial_gripper_width_m_);
  law_.reset(
    law_.config().compensate_gravity ? model_->gravity() : JointVector::Zero(model_->n_joints()));
  estimator_.reset();
  tau_before_ = law_.tau();
  stream_.forget();
  has_joint_target_ = false;
  law_reference_.wrench.setZero();
  law_reference_.pose = reference_.pose();
  set_present();
  q_hold_ = q_;
  is_led_by_targets_ = false;
  fault_ = false;
  consecutive_failures_ = 0;
}

bool ArmChannel::read(const Measurement & plant, double dt_s) noexcept
{
  rows_.read(plant, q_, dq_);
  take_law();
  is_measured_ = law_.update(q_, dq_, dt_s);
  return is_measured_;
}

void ArmChannel::set_law(const LawConfig & config, bool is_running)
{
  config.validate(model_->n_joints());
  // The loop takes it within a tick; until then a second caller must not write over it.
  for (int i = 0; has_next_law_.load(std::memory_order_acquire) && is_running && i < 1000; ++i)
  {
    sleep_until_ns(monotonic_ns() + 1'000'000);
  }
  next_law_ = config;
  has_next_law_.store(true, std::memory_order_release);
}

void ArmChannel::take_law() noexcept
{
  if (!has_next_law_.load(std::memory_order_acquire)) return;
  if (needs_new_hold(law_.config(), next_law_))
  {
    release();
    reference_.brake_from(model_->ee_pose(), Vector6::Zero());
  }
  if (law_.config().kind != next_law_.kind)
  {
    stream_.forget();
    has_joint_target_ = false;
    law_reference_.wrench.setZero();
    q_hold_ = q_;
  }
  law_.apply(next_law_);
  has_next_law_.store(false, std::memory_order_release);
}

void ArmChannel::release() noexcept
{
  if (is_led_by_targets_) reference_.brake_from(stream_.pose(), stream_.twist());
  is_led_by_targets_ = false;
  reference_.release();
}

void ArmChannel::open_targets(Rejection gate) noexcept
{
  if (gate == Rejection::kNone)
  {
    set_present();
  }
  else if (is_led_by_targets_)
  {
    release();
  }
  stream_.set_gate(gate);
  gate_ = gate;
  has_active_targets_ = true;
}

void ArmChannel::update_reference(int64_t now_ns, double dt_s, Rejection gate) noexcept
{
  if (gate != gate_) open_targets(gate);
  if (gate != Rejection::kNone)
  {
    if (has_active_targets_) stream_.relax(dt_s);
  }
  else if (!is_led_by_targets_ && stream_.is_pending())
  {
    is_led_by_targets_ = true;
    stream_.begin(reference_.pose(), reference_.twist(), law_reference_.q);
  }
  if (is_led_by_targets_)
  {
    stream_.update(now_ns, dt_s, model_->ee_pose());
  }
  else
  {
    reference_.update(now_ns, dt_s, model_->ee_pose());
  }
  fill_law_reference();
  if (has_active_targets_) fill_from_targets();
  keep_inside(
    workspace_, law_reference_.pose.position, law_reference_.twist, law_reference_.acceleration);
}

void ArmChannel::fill_law_reference() noexcept
{
  law_reference_.pose = reference_.pose();
  law_reference_.twist = reference_.twist();
  law_reference_.acceleration = reference_.acceleration();
  if (has_joint_target_) return;
  law_reference_.q = law_.config().kind == LawKind::kJoint ? q_hold_ : law_.config().posture;
  law_reference_.dq.resize(0);
}

void ArmChannel::fill_from_targets() noexcept
{
  if (is_led_by_targets_)
  {
    law_reference_.pose = stream_.pose();
    law_reference_.twist = stream_.twist();
    law_reference_.acceleration = stream_.acceleration();
  }
  law_reference_.wrench = stream_.wrench(model_->ee_pose().rotation);
  has_joint_target_ = stream_.q().size() != 0;
  if (has_joint_target_)
  {
    law_reference_.q = stream_.q();
    law_reference_.dq = stream_.dq();
  }
  stale_brakes_ = stream_.stale_brakes();
  set_present();
  has_active_targets_ = gate_ == Rejection::kNone || !stream_.is_at_rest();
}

void ArmChannel::set_present() noexcept
{
  // A posture of the configuration may be far from where the arm happens to be.
  const bool is_asked_for = has_joint_target_ || law_.config().kind == LawKind::kJoint;
  stream_.set_present(law_reference_.pose, is_asked_for ? law_reference_.q : q_);
}

void ArmChannel::run_law(double dt_s) noexcept
{
  if (fault_)
  {
    law_.compute_damping(dt_s);
    return;
  }
  const LawStatus status = law_.compute(law_reference_, dt_s);
  if (status == LawStatus::kTorqueRateLimited)
  {
    counters_.rate_limited_ticks.fetch_add(1, std::memory_order_relaxed);
  }
  else if (status == LawStatus::kTorqueLimited)
  {
    counters_.torque_limited_ticks.fetch_add(1, std::memory_order_relaxed);
  }
  if (status != LawStatus::kNotFinite)
  {
    consecutive_failures_ = 0;
    return;
  }
  counters_.not_finite.fetch_add(1, std::memory_order_relaxed);
  release();
  if (++consecutive_failures_ >= kFailuresToFault) fault_ = true;
}

void ArmChannel::estimate(double dt_s) noexcept
{
  if (!is_measured_)
  {
    // A measurement that the law refused must not reach the model by this way.
    estimator_.reset();
    return;
  }
  const LawFilters & filters = law_.config().filters;
  const bool is_filtered = filters.position_s > 0.0 || filters.velocity_s > 0.0;
  // The law has had its terms; what it left out or filtered is computed for the estimate alone.
  if (is_filtered || !(model_->terms() == estimator_.terms()))
  {
    model_->update(q_, dq_, estimator_.terms());
  }
  estimator_.update(*model_, dq_, tau_before_, dt_s);
  tau_before_ = law_.tau();
}

void ArmChannel::write(JointVector & plant_tau) const noexcept
{
  rows_.write(law_.tau(), plant_tau);
}

void ArmChannel::publish(StateRecord & s, const LatencyStamp & stamp) noexcept
{
  const auto n = q_.size();
  s.n_joints = static_cast<uint32_t>(n);
  for (Eigen::Index i = 0; i < n; ++i)
  {
    s.q[i] = q_[i];
    s.dq[i] = dq_[i];
    s.tau[i] = law_.tau()[i];
    s.tau_external[i] = estimator_.tau_external()[i];
  }
  copy_pose(model_->ee_pose(), s.position, s.quat_xyzw);
  copy_pose(law_reference_.pose, s.ref_position, s.ref_quat_xyzw);
  Eigen::Map<Vector6>{s.twist} = model_->ee_twist();
  Eigen::Map<Vector6>{s.ref_twist} = law_reference_.twist;
  Eigen::Map<Vector6>{s.wrench_external} = estimator_.wrench();
  s.gripper_target_m = reference_.gripper_width_m();
  s.segment_seq = reference_.segment_seq();
  s.segment_capture_ns = reference_.segment_capture_ns();
  s.segment_valid_until_ns = reference_.segment_valid_until_ns();
  state_ring_.write(stamp, &s, sizeof(s));
}

StateRecord ArmChannel::last_state() const noexcept
{
  StateRecord record{};
  state_ring_.read_latest(nullptr, &record, sizeof(record), nullptr);
  return record;
}

}  // namespace vla_ros_core
