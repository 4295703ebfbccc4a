// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_controllers/follower.hpp"

namespace vla_ros_controllers
{

using vla_ros_core::JointVector;
using vla_ros_core::Mode;
using vla_ros_core::Pose;
using vla_ros_core::Rejection;

Follower::Follower(const FollowerConfig & config, const vla_ros_core::TargetNames & names)
: authority_(config.authority),
  segments_(config.authority, "", config.segment_limits, counters_),
  generator_(config.reference),
  stream_(config.target, names)
{
}

void Follower::begin(const Pose & pose, const JointVector & q) noexcept
{
  authority_.forget();
  segments_.forget();
  generator_.reset(pose, generator_.gripper_width_m());
  stream_.set_gate(Rejection::kNone);
  stream_.forget();
  is_led_by_targets_ = false;
  fill(pose, q);
  stream_.set_present(output_.pose, output_.q);
}

void Follower::release() noexcept
{
  if (is_led_by_targets_) generator_.brake_from(stream_.pose(), stream_.twist());
  is_led_by_targets_ = false;
  generator_.release();
}

void Follower::update(
  int64_t now_ns, double dt_s, const Pose & measured, const JointVector & posture) noexcept
{
  if (authority_.take(now_ns)) release();
  const Rejection closed = authority_.target_gate();
  stream_.set_gate(closed);
  if (closed != Rejection::kNone)
  {
    if (is_led_by_targets_) release();
    stream_.relax(dt_s);
  }
  else if (!is_led_by_targets_ && stream_.is_pending())
  {
    is_led_by_targets_ = true;
    stream_.begin(generator_.pose(), generator_.twist(), output_.q);
  }
  segments_.take(authority_, now_ns, generator_);
  if (is_led_by_targets_)
  {
    stream_.update(now_ns, dt_s, measured);
  }
  else
  {
    generator_.update(now_ns, dt_s, measured);
  }
  fill(measured, posture);
  stream_.set_present(output_.pose, output_.q);
}

void Follower::fill(const Pose & measured, const JointVector & posture) noexcept
{
  output_.pose = is_led_by_targets_ ? stream_.pose() : generator_.pose();
  output_.twist = is_led_by_targets_ ? stream_.twist() : generator_.twist();
  output_.acceleration = is_led_by_targets_ ? stream_.acceleration() : generator_.acceleration();
  output_.wrench = stream_.wrench(measured.rotation);
  if (stream_.q().size() != 0)
  {
    output_.q = stream_.q();
    output_.dq = stream_.dq();
  }
  else
  {
    output_.q = posture;
    output_.dq.resize(0);
  }
}

Mode Follower::mode() const noexcept
{
  if (authority_.is_stopped()) return Mode::kStopped;
  return is_led_by_targets_ ? stream_.mode() : generator_.mode();
}

}  // namespace vla_ros_controllers
