// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_core/reference.hpp"

#include <algorithm>
#include <cmath>

#include "vla_ros_core/config_check.hpp"

namespace vla_ros_core
{

namespace
{

constexpr double kLongestTick_s = 0.01;
constexpr int64_t kLongestRow_ns = 1'000'000'000;
constexpr int64_t kInstructionRows = 3;  // of the old instruction that may still be executed

/// Shorten a vector to at most `limit`.
Eigen::Vector3d limited(const Eigen::Vector3d & v, double limit) noexcept
{
  const double norm = v.norm();
  return norm > limit ? Eigen::Vector3d(v * (limit / norm)) : v;
}

/// Reduce the length of a vector by `step`, stopping at zero.
Eigen::Vector3d slowed(const Eigen::Vector3d & v, double step) noexcept
{
  const double norm = v.norm();
  return norm <= step ? Eigen::Vector3d::Zero() : Eigen::Vector3d(v * (1.0 - step / norm));
}

/// Pose displaced by an offset (translation, rotation vector in base).
Pose displaced(const Pose & pose, const Vector6 & offset) noexcept
{
  Pose result;
  result.position = pose.position + offset.head<3>();
  result.rotation = exp_rotation(offset.tail<3>()) * pose.rotation;
  return result;
}

/// What the rows ask for at `now_ns`, in real time: twist and acceleration along the slowed path.
Sample sample_warped(const SegmentRecord & segment, const TimeWarp & warp, int64_t now_ns) noexcept
{
  Sample sample = sample_segment(segment, warp.row_time_ns(now_ns));
  const double rate = warp.rate(now_ns);
  sample.acceleration = rate * rate * sample.acceleration + warp.rate_change(now_ns) * sample.twist;
  sample.twist *= rate;
  return sample;
}

}  // namespace

void ReferenceConfig::validate() const
{
  check_range("max_speed_m_s", max_speed_m_s, 1e-3, 3.0);
  check_range("max_speed_rad_s", max_speed_rad_s, 1e-3, 10.0);
  check_range("brake_m_s2", brake_m_s2, 0.1, 13.0);
  check_range("brake_rad_s2", brake_rad_s2, 0.1, 25.0);
  check_range("seam_time_constant_s", seam_time_constant_s, 1e-3, 1.0);
}

ReferenceGenerator::ReferenceGenerator(const ReferenceConfig & config) : config_(config)
{
  config_.validate();
}

void ReferenceGenerator::reset(const Pose & pose, double gripper_width_m) noexcept
{
  mode_ = Mode::kIdle;
  has_segment_ = false;
  pose_ = pose;
  hold_pose_ = pose;
  twist_.setZero();
  acceleration_.setZero();
  offset_.setZero();
  offset_rate_.setZero();
  gripper_width_m_ = gripper_width_m;
}

void ReferenceGenerator::accept(
  const SegmentRecord & segment, uint64_t segment_seq, const LatencyStamp & stamp,
  int64_t now_ns) noexcept
{
  const bool is_same_cause =
    has_segment_ && capture_ns_ != 0 && stamp.capture_oldest_ns == capture_ns_;
  const int64_t lagging_ns = is_same_cause ? warp_.row_time_ns(now_ns) : now_ns;
  segment_ = segment;
  complete_twists(segment_);
  segment_seq_ = segment_seq;
  segment_instruction_id_ = stamp.instruction_id;
  capture_ns_ = stamp.capture_oldest_ns;
  end_ns_ = end_of_segment_ns(segment_);
  has_segment_ = true;
  const int64_t row_ns = std::max(lagging_ns, std::min(segment_.rows[0].target_ns, now_ns));
  // By the stamp: a segment that is cut short brakes at its end, not by a steeper ramp.
  const int64_t hard_ns =
    stamp.hard_expire_ns > 0 ? usable_until_ns(stamp) : segment_.valid_until_ns;
  warp_ = TimeWarp(stamp.soft_expire_ns, hard_ns, now_ns, now_ns - row_ns);
  const Sample target = sample_warped(segment_, warp_, now_ns);
  // The reference is still where it was at the last update: compare with the rows of that time.
  const double since_s =
    std::clamp(1e-9 * static_cast<double>(now_ns - updated_ns_), 0.0, kLongestTick_s);
  offset_ = pose_error(displaced(target.pose, -since_s * target.twist), pose_);
  offset_rate_ = twist_ - target.twist;
  mode_ = Mode::kTrack;
}

void ReferenceGenerator::set_instruction(uint32_t instruction_id, int64_t now_ns) noexcept
{
  if (instruction_id == instruction_id_) return;
  instruction_id_ = instruction_id;
  if (!has_segment_ || instruction_id == 0 || instruction_id == segment_instruction_id_) return;
  end_ns_ = std::min(end_ns_, now_ns + instruction_grace_ns());
}

int64_t ReferenceGenerator::instruction_grace_ns() const noexcept
{
  const double braking_s = std::max(
    twist_.head<3>().norm() / config_.brake_m_s2, twist_.tail<3>().norm() / config_.brake_rad_s2);
  const auto n = static_cast<int64_t>(segment_.n_rows);
  const int64_t span_ns = segment_.rows[n - 1].target_ns - segment_.rows[0].target_ns;
  // Bounded before it is multiplied: times of rows may be anything that increases.
  const int64_t row_ns = n > 1 ? std::min(span_ns / (n - 1), kLongestRow_ns) : 0;
  return std::min(static_cast<int64_t>(1e9 * braking_s), kInstructionRows * row_ns);
}

void ReferenceGenerator::release() noexcept
{
  has_segment_ = false;
  if (mode_ == Mode::kTrack) mode_ = Mode::kBrake;
}

void ReferenceGenerator::brake_from(const Pose & pose, const Vector6 & twist) noexcept
{
  has_segment_ = false;
  mode_ = Mode::kBrake;
  pose_ = pose;
  twist_ = twist;
}

void ReferenceGenerator::update(int64_t now_ns, double dt_s, const Pose & measured) noexcept
{
  if (mode_ == Mode::kTrack && now_ns > end_ns_)
  {
    ++expired_brakes_;
    release();
  }
  updated_ns_ = now_ns;
  acceleration_.setZero();
  switch (mode_)
  {
    case Mode::kTrack:
      track(now_ns, dt_s);
      break;
    case Mode::kBrake:
      brake(dt_s);
      if (twist_.isZero(0.0))
      {
        // Begin the hold where the arm is, reached by fading: no wind-up against a contact.
        mode_ = Mode::kHold;
        hold_pose_ = measured;
        offset_ = pose_error(measured, pose_);
        offset_rate_.setZero();
      }
      break;
    default:
      hold(dt_s);
      break;
  }
}

void ReferenceGenerator::fade(double dt_s) noexcept
{
  // Exact step of a critically damped second-order decay, so the fade is C1 at any rate.
  const double omega = 1.0 / config_.seam_time_constant_s;
  const double decay = std::exp(-omega * dt_s);
  const Vector6 slope = offset_rate_ + omega * offset_;
  offset_ = (offset_ + slope * dt_s) * decay;
  offset_rate_ = (offset_rate_ - omega * slope * dt_s) * decay;
}

void ReferenceGenerator::track(int64_t now_ns, double dt_s) noexcept
{
  // Counted apart from the check that prevents it, so that a mistake there would show.
  if (now_ns > segment_.valid_until_ns) ++rows_after_expiry_;
  const Sample target = sample_warped(segment_, warp_, now_ns);
  fade(dt_s);
  const Pose wanted = displaced(target.pose, offset_);
  const Vector6 step = pose_error(pose_, wanted);
  Vector6 allowed;
  allowed.head<3>() = limited(step.head<3>(), config_.max_speed_m_s * dt_s);
  allowed.tail<3>() = limited(step.tail<3>(), config_.max_speed_rad_s * dt_s);
  pose_ = displaced(pose_, allowed);
  const bool is_limited = !(allowed - step).isZero(0.0);
  if (is_limited) offset_ = pose_error(target.pose, pose_);
  if (config_.acceleration_feed_forward && !is_limited) acceleration_ = target.acceleration;
  pose_.rotation.normalize();
  twist_ = target.twist + offset_rate_;
  twist_.head<3>() = limited(twist_.head<3>(), config_.max_speed_m_s);
  twist_.tail<3>() = limited(twist_.tail<3>(), config_.max_speed_rad_s);
  gripper_width_m_ = target.gripper_width_m;
}

void ReferenceGenerator::brake(double dt_s) noexcept
{
  twist_.head<3>() = slowed(twist_.head<3>(), config_.brake_m_s2 * dt_s);
  twist_.tail<3>() = slowed(twist_.tail<3>(), config_.brake_rad_s2 * dt_s);
  pose_ = displaced(pose_, twist_ * dt_s);
  pose_.rotation.normalize();
}

void ReferenceGenerator::hold(double dt_s) noexcept
{
  fade(dt_s);
  pose_ = displaced(hold_pose_, offset_);
  pose_.rotation.normalize();
  twist_.setZero();
}

}  // namespace vla_ros_core
