// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <cmath>
#include <mutex>

#include "hermite.hpp"
#include "stream_plan.hpp"
#include "vla_ros_core/error.hpp"
#include "vla_ros_core/mailbox.hpp"
#include "vla_ros_core/target.hpp"

namespace vla_ros_core
{

namespace
{

constexpr double kShortestPath_s = 0.01;

Pose pose_of(const PoseTarget & t) noexcept
{
  Pose pose;
  pose.position = Eigen::Map<const Eigen::Vector3d>(t.position);
  pose.rotation.coeffs() = Eigen::Map<const Eigen::Vector4d>(t.quat_xyzw);
  pose.rotation.normalize();
  return pose;
}

Pose displaced(const Pose & pose, const Vector6 & offset) noexcept
{
  Pose result;
  result.position = pose.position + offset.head<3>();
  result.rotation = exp_rotation(offset.tail<3>()) * pose.rotation;
  result.rotation.normalize();
  return result;
}

/// Shorten `v` by `step`, stopping at zero.
template <typename Vector>
void slow_down(Vector && v, double step) noexcept
{
  const double norm = v.norm();
  v *= norm <= step ? 0.0 : 1.0 - step / norm;
}

double seconds_since(int64_t then_ns, int64_t now_ns) noexcept
{
  return 1e-9 * static_cast<double>(now_ns - then_ns);
}

/// Cubic between two joint positions that meets the velocities at its ends.
struct JointPath
{
  JointVector from, step, v0, v1;
  double duration_s = 1.0;

  void at(double time_s, JointVector & q, JointVector & dq) const noexcept
  {
    const HermiteWeights w(time_s / duration_s, duration_s);
    q = from + w.x1 * step + w.v0 * v0 + w.v1 * v1;
    dq = w.dx1 * step + w.dv0 * v0 + w.dv1 * v1;
  }
};

/// When the newest target of one kind arrived and where its path stands.
struct Clock
{
  int64_t arrived_ns = 0;
  int64_t path_start_ns = 0;
  bool is_fresh = false;
};

}  // namespace

struct TargetStream::Impl
{
  TargetConfig config;
  TargetNames names;
  PoseBounds pose_bounds;
  JointBounds joint_bounds;
  // Shared with the threads that set targets.
  std::mutex writers;
  std::atomic<Rejection> gate{Rejection::kNoAuthority};
  Mailbox<PoseTarget> pose_box;
  Mailbox<JointTarget> joint_box;
  Mailbox<WrenchTarget> wrench_box;
  Mailbox<PresentReference> present_box;
  PresentReference present;  // of the writers
  uint64_t present_seen = 0;
  int64_t last_stamp_ns[3] = {};
  // Of the loop.
  uint64_t pose_seen = 0, joint_seen = 0, wrench_seen = 0;
  StreamEstimate<Pose, Vector6, PoseBounds> pose_estimate;
  StreamEstimate<JointVector, JointVector, JointBounds> joint_estimate;
  Clock pose_clock, joint_clock, wrench_clock;
  PosePath pose_path;
  JointPath joint_path;
  Motion motion;
  JointVector q, dq;
  Vector6 wrench = Vector6::Zero();
  bool wrench_in_tool_axes = false;
  bool is_holding = true;
  Pose hold_pose;
  Vector6 hold_offset = Vector6::Zero();
  Vector6 hold_offset_rate = Vector6::Zero();
  uint64_t stale_brakes = 0;

  Impl(const TargetConfig & c, TargetNames n) : config(c), names(std::move(n))
  {
    config.validate();
    pose_bounds = {
      config.max_speed_m_s, config.max_speed_rad_s, config.max_acceleration_m_s2,
      config.max_acceleration_rad_s2};
    joint_bounds = {config.max_joint_speed_rad_s, config.max_joint_acceleration_rad_s2};
    const auto joints = static_cast<Eigen::Index>(names.joint_names.size());
    if (names.q_min.size() != joints || names.q_max.size() != joints || joints > kMaxJoints)
    {
      throw Error("q_min and q_max need one value per joint name");
    }
    const JointVector zero = JointVector::Zero(joints);
    joint_path = {zero, zero, zero, zero, 1.0};
    dq = zero;
    pose_estimate.clear(Vector6::Zero());
    joint_estimate.clear(zero);
  }

  // --- called by writers, which hold the mutex ---

  template <typename Target>
  Rejection admit(
    Target & target, Rejection reason, int kind, int64_t now_ns, Mailbox<Target> & box) noexcept
  {
    if (reason != Rejection::kNone) return reason;
    if (const Rejection closed = gate.load(); closed != Rejection::kNone) return closed;
    if (target.stamp_ns == 0) target.stamp_ns = now_ns;
    // Targets of one tick carry one time; the newer one counts.
    if (target.stamp_ns < last_stamp_ns[kind]) return Rejection::kOutOfOrder;
    last_stamp_ns[kind] = target.stamp_ns;
    box.put(target);
    return Rejection::kNone;
  }

  const PresentReference & now_present() noexcept
  {
    present_box.take(present, present_seen);
    return present;
  }

  // --- called by the loop ---

  void take_pose(int64_t now_ns) noexcept
  {
    PoseTarget target;
    if (!pose_box.take(target, pose_seen)) return;
    if (!pose_estimate.is_in_order(target.stamp_ns)) return;
    const Pose point = pose_of(target);
    const Vector6 given = Eigen::Map<const Vector6>(target.twist);
    pose_estimate.add(
      target.stamp_ns, point, target.has_twist != 0 ? &given : nullptr, config.timeout_s,
      pose_bounds);
    pose_clock = {now_ns, now_ns, true};
    is_holding = false;
    const double least_s = std::max(pose_estimate.period_s(), kShortestPath_s);
    const double ahead_s = ahead(target.stamp_ns, now_ns, least_s);
    const Vector6 turn = ahead_s * pose_estimate.acceleration();
    const Pose goal = displaced(point, ahead_s * (pose_estimate.rate() + 0.5 * turn));
    Vector6 rate = pose_estimate.rate() + turn;
    rate /= std::max(1.0, pose_bounds.speed(rate));
    const double duration_s = path_duration_s<Vector6>(
      pose_error(motion.pose, goal), motion.twist, rate, least_s, pose_bounds);
    pose_path = PosePath(motion.pose, motion.twist, goal, rate, duration_s);
  }

  void take_joint(int64_t now_ns) noexcept
  {
    JointTarget target;
    if (!joint_box.take(target, joint_seen)) return;
    if (!joint_estimate.is_in_order(target.stamp_ns)) return;
    const auto n = dq.size();
    const JointVector point = Eigen::Map<const Eigen::VectorXd>(target.q, n);
    const JointVector given = Eigen::Map<const Eigen::VectorXd>(target.dq, n);
    joint_estimate.add(
      target.stamp_ns, point, target.has_dq != 0 ? &given : nullptr, config.timeout_s,
      joint_bounds);
    if (q.size() == 0) q = start_q;
    joint_clock = {now_ns, now_ns, true};
    const double least_s = std::max(joint_estimate.period_s(), kShortestPath_s);
    const double ahead_s = ahead(target.stamp_ns, now_ns, least_s);
    const JointVector turn = ahead_s * joint_estimate.acceleration();
    JointVector rate = joint_estimate.rate();
    rate += turn;
    rate /= std::max(1.0, joint_bounds.speed(rate));
    const JointVector goal = (point + ahead_s * (joint_estimate.rate() + 0.5 * turn))
                               .cwiseMax(names.q_min)
                               .cwiseMin(names.q_max);
    joint_path.from = q;
    joint_path.step = goal - q;
    joint_path.v0 = dq;
    joint_path.v1 = rate;
    joint_path.duration_s =
      path_duration_s<JointVector>(joint_path.step, dq, rate, least_s, joint_bounds);
  }

  /// How far beyond the target its path leads: to where the motion will be when it ends there.
  double ahead(int64_t stamp_ns, int64_t now_ns, double duration_s) const noexcept
  {
    return std::clamp(
      seconds_since(stamp_ns, now_ns) + duration_s, 0.0, config.max_extrapolation_s);
  }

  /// How long a path is carried on at its last velocity when the next target is late.
  double coast_s(double period_s) const noexcept
  {
    return std::min(0.5 * period_s, config.max_extrapolation_s);
  }

  void advance_pose(int64_t now_ns, double dt_s, const Pose & measured) noexcept
  {
    if (is_holding)
    {
      hold(dt_s);
      return;
    }
    motion.acceleration.setZero();
    // A path begins where the tick before left the reference, and moves on in the same tick.
    const double time_s = seconds_since(pose_clock.path_start_ns, now_ns) + dt_s;
    if (pose_clock.is_fresh && time_s <= pose_path.duration_s())
    {
      motion = pose_path.at(time_s);
      if (!config.acceleration_feed_forward) motion.acceleration.setZero();
      return;
    }
    const bool is_late =
      !pose_clock.is_fresh || time_s > pose_path.duration_s() + coast_s(pose_estimate.period_s());
    if (is_late)
    {
      slow_down(motion.twist.head<3>(), config.brake_m_s2 * dt_s);
      slow_down(motion.twist.tail<3>(), config.brake_rad_s2 * dt_s);
    }
    motion.pose = displaced(motion.pose, motion.twist * dt_s);
    if (!pose_clock.is_fresh && motion.twist.isZero(0.0)) begin_hold(measured);
  }

  void begin_hold(const Pose & measured) noexcept
  {
    // Begin the hold where the arm is, reached by fading: no wind-up against a contact.
    is_holding = true;
    hold_pose = measured;
    hold_offset = pose_error(measured, motion.pose);
    hold_offset_rate.setZero();
  }

  void hold(double dt_s) noexcept
  {
    const double omega = 1.0 / config.hold_time_constant_s;
    const double decay = std::exp(-omega * dt_s);
    const Vector6 slope = hold_offset_rate + omega * hold_offset;
    hold_offset = (hold_offset + slope * dt_s) * decay;
    hold_offset_rate = (hold_offset_rate - omega * slope * dt_s) * decay;
    motion.pose = displaced(hold_pose, hold_offset);
    motion.twist.setZero();
    motion.acceleration.setZero();
  }

  void advance_joint(int64_t now_ns, double dt_s) noexcept
  {
    if (q.size() == 0) return;
    const double time_s = seconds_since(joint_clock.path_start_ns, now_ns) + dt_s;
    if (joint_clock.is_fresh && time_s <= joint_path.duration_s)
    {
      joint_path.at(time_s, q, dq);
      return;
    }
    brake_joint(time_s, dt_s);
  }

  void brake_joint(double time_s, double dt_s) noexcept
  {
    const bool is_late =
      !joint_clock.is_fresh || time_s > joint_path.duration_s + coast_s(joint_estimate.period_s());
    if (is_late)
    {
      const double largest = dq.cwiseAbs().maxCoeff();
      const double step = config.max_joint_acceleration_rad_s2 * dt_s;
      dq *= largest <= step ? 0.0 : 1.0 - step / largest;
    }
    q = (q + dq * dt_s).cwiseMax(names.q_min).cwiseMin(names.q_max);
  }

  void grow_stale(Clock & clock, int64_t now_ns, bool counts) noexcept
  {
    if (!clock.is_fresh || seconds_since(clock.arrived_ns, now_ns) <= config.timeout_s) return;
    clock.is_fresh = false;
    if (counts) ++stale_brakes;
  }

  void fade_wrench(double dt_s) noexcept
  {
    wrench *= std::exp(-dt_s / config.wrench_decay_s);
    if (wrench.cwiseAbs().maxCoeff() < 1e-6) wrench.setZero();
  }

  JointVector start_q;
};

TargetStream::TargetStream(const TargetConfig & config, TargetNames names)
: impl_(std::make_unique<Impl>(config, std::move(names)))
{
}

TargetStream::~TargetStream() = default;

Rejection TargetStream::set_pose(
  PoseTarget target, const std::string & frame, int64_t now_ns) noexcept
{
  Impl & m = *impl_;
  const std::lock_guard<std::mutex> lock(m.writers);
  const Rejection reason =
    check_target_pose(target, frame, m.names, m.config, m.now_present(), now_ns);
  return m.admit(target, reason, 0, now_ns, m.pose_box);
}

Rejection TargetStream::set_joint(
  const std::vector<std::string> & joint_names, const std::vector<double> & q,
  const std::vector<double> & dq, int64_t stamp_ns, int64_t now_ns) noexcept
{
  Impl & m = *impl_;
  const std::lock_guard<std::mutex> lock(m.writers);
  JointTarget target;
  target.stamp_ns = stamp_ns;
  const Rejection reason =
    check_target_joint(joint_names, q, dq, m.names, m.config, m.now_present(), now_ns, target);
  return m.admit(target, reason, 1, now_ns, m.joint_box);
}

Rejection TargetStream::set_wrench(
  WrenchTarget target, const std::string & frame, int64_t now_ns) noexcept
{
  Impl & m = *impl_;
  const std::lock_guard<std::mutex> lock(m.writers);
  const Rejection reason = check_target_wrench(target, frame, m.names, m.config, now_ns);
  return m.admit(target, reason, 2, now_ns, m.wrench_box);
}

void TargetStream::set_gate(Rejection reason) noexcept { impl_->gate.store(reason); }

void TargetStream::set_present(const Pose & pose, const JointVector & q) noexcept
{
  PresentReference present;
  Eigen::Map<Eigen::Vector3d>{present.position} = pose.position;
  Eigen::Map<Eigen::Vector4d>{present.quat_xyzw} = pose.rotation.coeffs();
  std::copy(q.data(), q.data() + q.size(), present.q);
  impl_->present_box.put(present);
}

bool TargetStream::is_pending() const noexcept
{
  const Impl & m = *impl_;
  return m.pose_box.newest() != m.pose_seen || m.joint_box.newest() != m.joint_seen ||
         m.wrench_box.newest() != m.wrench_seen;
}

void TargetStream::begin(const Pose & pose, const Vector6 & twist, const JointVector & q) noexcept
{
  Impl & m = *impl_;
  m.motion.pose = pose;
  m.motion.twist = twist;
  m.motion.acceleration.setZero();
  m.pose_clock = m.joint_clock = m.wrench_clock = Clock{};
  m.pose_estimate.clear(Vector6::Zero());
  m.joint_estimate.clear(JointVector::Zero(m.dq.size()));
  m.start_q = q;
  m.dq.setZero();
  m.is_holding = twist.isZero(0.0);
  m.hold_pose = pose;
  m.hold_offset.setZero();
  m.hold_offset_rate.setZero();
}

void TargetStream::update(int64_t now_ns, double dt_s, const Pose & measured) noexcept
{
  Impl & m = *impl_;
  m.take_pose(now_ns);
  m.take_joint(now_ns);
  if (WrenchTarget target; m.wrench_box.take(target, m.wrench_seen))
  {
    m.wrench = Eigen::Map<const Vector6>(target.wrench);
    m.wrench_in_tool_axes = target.in_tool_axes != 0;
    m.wrench_clock = {now_ns, now_ns, true};
  }
  m.grow_stale(m.pose_clock, now_ns, true);
  m.grow_stale(m.joint_clock, now_ns, true);
  m.grow_stale(m.wrench_clock, now_ns, false);
  m.advance_pose(now_ns, dt_s, measured);
  m.advance_joint(now_ns, dt_s);
  if (!m.wrench_clock.is_fresh) m.fade_wrench(dt_s);
}

void TargetStream::relax(double dt_s) noexcept
{
  Impl & m = *impl_;
  m.pose_seen = m.pose_box.newest();
  m.joint_seen = m.joint_box.newest();
  m.wrench_seen = m.wrench_box.newest();
  m.pose_clock.is_fresh = m.joint_clock.is_fresh = m.wrench_clock.is_fresh = false;
  if (m.q.size() != 0) m.brake_joint(0.0, dt_s);
  m.fade_wrench(dt_s);
}

void TargetStream::forget() noexcept
{
  relax(0.0);
  impl_->q.resize(0);
  impl_->dq.setZero();
  impl_->wrench.setZero();
}

Mode TargetStream::mode() const noexcept
{
  const Impl & m = *impl_;
  if (m.pose_clock.is_fresh || m.joint_clock.is_fresh || m.wrench_clock.is_fresh)
  {
    return Mode::kTrack;
  }
  return m.is_holding ? Mode::kHold : Mode::kBrake;
}

const Pose & TargetStream::pose() const noexcept { return impl_->motion.pose; }
const Vector6 & TargetStream::twist() const noexcept { return impl_->motion.twist; }
const Vector6 & TargetStream::acceleration() const noexcept { return impl_->motion.acceleration; }
const JointVector & TargetStream::q() const noexcept { return impl_->q; }
const JointVector & TargetStream::dq() const noexcept { return impl_->dq; }
double TargetStream::period_s() const noexcept { return impl_->pose_estimate.period_s(); }
uint64_t TargetStream::stale_brakes() const noexcept { return impl_->stale_brakes; }
const TargetConfig & TargetStream::config() const noexcept { return impl_->config; }
const TargetNames & TargetStream::names() const noexcept { return impl_->names; }

Vector6 TargetStream::wrench(const Eigen::Quaterniond & ee_rotation) const noexcept
{
  if (!impl_->wrench_in_tool_axes) return impl_->wrench;
  Vector6 w;
  w.head<3>() = ee_rotation * impl_->wrench.head<3>();
  w.tail<3>() = ee_rotation * impl_->wrench.tail<3>();
  return w;
}

}  // namespace vla_ros_core
