// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <atomic>
#include <cmath>
#include <mutex>

#include "stream_leaders.hpp"
#include "vla_ros_core/error.hpp"
#include "vla_ros_core/mailbox.hpp"
#include "vla_ros_core/target.hpp"

namespace vla_ros_core
{

struct TargetStream::Impl
{
  TargetConfig config;
  TargetNames names;
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
  PoseLeader pose;
  JointLeader joint;
  TargetClock wrench_clock;
  Vector6 wrench = Vector6::Zero();
  bool wrench_in_tool_axes = false;
  uint64_t stale_brakes = 0;

  Impl(const TargetConfig & c, TargetNames n)
  : config(c), names(checked(std::move(n))), pose(config), joint(config, names)
  {
    config.validate();
  }

  static TargetNames checked(TargetNames names)
  {
    const auto n = static_cast<Eigen::Index>(names.joint_names.size());
    if (n < 1 || n > kMaxJoints || names.q_min.size() != n || names.q_max.size() != n)
    {
      throw Error("an arm needs 1 to 16 joint names, with one value of q_min and q_max for each");
    }
    return names;
  }

  // --- called by writers, which hold the mutex ---

  template <typename Target>
  Rejection admit(
    Target & target, Rejection reason, int kind, int64_t now_ns, Mailbox<Target> & box) noexcept
  {
    const Rejection closed = gate.load();
    // While the gate is closed nobody says where the reference is: no distance is known then.
    const bool is_known = reason != Rejection::kTooFar || closed == Rejection::kNone;
    if (reason != Rejection::kNone && is_known) return reason;
    if (closed != Rejection::kNone) return closed;
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

  void fade_wrench(double dt_s) noexcept
  {
    if (wrench.isZero(0.0)) return;
    wrench *= std::exp(-dt_s / config.wrench_decay_s);
    if (wrench.cwiseAbs().maxCoeff() < 1e-6) wrench.setZero();
  }
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
  impl_->pose.begin(pose, twist);
  impl_->joint.begin(q);
  impl_->wrench_clock = TargetClock{};
}

void TargetStream::update(int64_t now_ns, double dt_s, const Pose & measured) noexcept
{
  Impl & m = *impl_;
  if (PoseTarget target; m.pose_box.take(target, m.pose_seen)) m.pose.take(target, now_ns);
  if (JointTarget target; m.joint_box.take(target, m.joint_seen)) m.joint.take(target, now_ns);
  if (WrenchTarget target; m.wrench_box.take(target, m.wrench_seen))
  {
    m.wrench = Eigen::Map<const Vector6>(target.wrench);
    m.wrench_in_tool_axes = target.in_tool_axes != 0;
    m.wrench_clock = {now_ns, true};
  }
  if (m.pose.clock().grow_stale(now_ns, m.config.timeout_s)) ++m.stale_brakes;
  if (m.joint.clock().grow_stale(now_ns, m.config.timeout_s)) ++m.stale_brakes;
  m.wrench_clock.grow_stale(now_ns, m.config.timeout_s);
  m.pose.advance(now_ns, dt_s, measured);
  m.joint.advance(now_ns, dt_s);
  if (!m.wrench_clock.is_fresh) m.fade_wrench(dt_s);
}

void TargetStream::relax(double dt_s) noexcept
{
  Impl & m = *impl_;
  m.pose_seen = m.pose_box.newest();
  m.joint_seen = m.joint_box.newest();
  m.wrench_seen = m.wrench_box.newest();
  m.pose.clock().is_fresh = m.joint.clock().is_fresh = m.wrench_clock.is_fresh = false;
  m.joint.advance(0, dt_s);
  m.fade_wrench(dt_s);
}

bool TargetStream::is_at_rest() const noexcept
{
  return impl_->wrench.isZero(0.0) && impl_->joint.dq().isZero(0.0);
}

void TargetStream::forget() noexcept
{
  relax(0.0);
  impl_->joint.forget();
  impl_->wrench.setZero();
}

Mode TargetStream::mode() const noexcept
{
  const Impl & m = *impl_;
  if (m.pose.clock().is_fresh || m.joint.clock().is_fresh || m.wrench_clock.is_fresh)
  {
    return Mode::kTrack;
  }
  return m.pose.is_holding() ? Mode::kHold : Mode::kBrake;
}

const Pose & TargetStream::pose() const noexcept { return impl_->pose.motion().pose; }
const Vector6 & TargetStream::twist() const noexcept { return impl_->pose.motion().twist; }
const Vector6 & TargetStream::acceleration() const noexcept
{
  return impl_->pose.motion().acceleration;
}
const JointVector & TargetStream::q() const noexcept { return impl_->joint.q(); }
const JointVector & TargetStream::dq() const noexcept { return impl_->joint.dq(); }
double TargetStream::period_s() const noexcept { return impl_->pose.period_s(); }
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
