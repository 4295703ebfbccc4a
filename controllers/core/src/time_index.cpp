// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_core/time_index.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "hermite.hpp"

namespace vla_ros_core
{

namespace
{

constexpr double kQuaternionTolerance = 1e-3;
constexpr double kFarthestM = 100.0;  // beyond any arm; larger numbers overflow in the fade
constexpr int64_t kFarFutureNs = 10'000'000'000;

bool is_finite(const SegmentRow & row) noexcept
{
  double sum = row.gripper_width_m;
  for (double v : row.position) sum += v;
  for (double v : row.quat_xyzw) sum += v;
  for (double v : row.twist) sum += v;
  return std::isfinite(sum);
}

Eigen::Quaterniond rotation_of(const SegmentRow & row) noexcept
{
  return Eigen::Quaterniond(row.quat_xyzw[3], row.quat_xyzw[0], row.quat_xyzw[1], row.quat_xyzw[2]);
}

Eigen::Map<const Eigen::Vector3d> position_of(const SegmentRow & row) noexcept
{
  return Eigen::Map<const Eigen::Vector3d>(row.position);
}

Eigen::Map<const Vector6> twist_of(const SegmentRow & row) noexcept
{
  return Eigen::Map<const Vector6>(row.twist);
}

Pose pose_of(const SegmentRow & row) noexcept
{
  return {position_of(row), rotation_of(row).normalized()};
}

Rejection check_row(const SegmentRow & row) noexcept
{
  if (!is_finite(row)) return Rejection::kNotFinite;
  if (position_of(row).cwiseAbs().maxCoeff() > kFarthestM) return Rejection::kTooFar;
  const double norm = rotation_of(row).norm();
  if (std::abs(norm - 1.0) > kQuaternionTolerance) return Rejection::kQuaternion;
  // Times of no clock; differences of the others cannot overflow.
  if (row.target_ns < 0) return Rejection::kTimeOrder;
  return Rejection::kNone;
}

bool is_too_fast(const SegmentRow & row, const SegmentLimits & limits) noexcept
{
  return twist_of(row).head<3>().norm() > limits.max_speed_m_s ||
         twist_of(row).tail<3>().norm() > limits.max_speed_rad_s;
}

Rejection check_step(
  const SegmentRow & a, const SegmentRow & b, const SegmentLimits & limits) noexcept
{
  if (b.target_ns <= a.target_ns) return Rejection::kTimeOrder;
  const double dt_s = 1e-9 * static_cast<double>(b.target_ns - a.target_ns);
  const double distance = (position_of(b) - position_of(a)).norm();
  const double angle = log_rotation(rotation_of(b) * rotation_of(a).conjugate()).norm();
  if (distance > limits.max_speed_m_s * dt_s || angle > limits.max_speed_rad_s * dt_s)
  {
    return Rejection::kSpeed;
  }
  return Rejection::kNone;
}

}  // namespace

const char * to_string(Rejection reason) noexcept
{
  switch (reason)
  {
    case Rejection::kNone:
      return "none";
    case Rejection::kRowCount:
      return "row count";
    case Rejection::kNotFinite:
      return "not finite";
    case Rejection::kQuaternion:
      return "quaternion not unit";
    case Rejection::kTimeOrder:
      return "row times do not increase";
    case Rejection::kFarFuture:
      return "row times far in the future";
    case Rejection::kSpeed:
      return "rows faster than allowed";
    case Rejection::kExpired:
      return "expired";
    case Rejection::kEpoch:
      return "other authority epoch";
    case Rejection::kInstruction:
      return "other instruction";
    case Rejection::kWrongFrame:
      return "not in the base frame";
    case Rejection::kUnknownFrame:
      return "unknown frame";
    case Rejection::kLength:
      return "wrong number of values";
    case Rejection::kUnknownJoint:
      return "unknown joint";
    case Rejection::kRepeatedJoint:
      return "joint named twice";
    case Rejection::kJointLimit:
      return "beyond a joint limit";
    case Rejection::kTooFar:
      return "too far from the reference";
    case Rejection::kTooFast:
      return "faster than allowed";
    case Rejection::kTooLarge:
      return "wrench larger than allowed";
    case Rejection::kFuture:
      return "from the future";
    case Rejection::kTooOld:
      return "too old";
    case Rejection::kOutOfOrder:
      return "older than the last one";
    case Rejection::kNoAuthority:
      return "no authority";
    case Rejection::kStopped:
      return "stopped";
    case Rejection::kUnknownArm:
      return "unknown end effector";
    case Rejection::kCount:
      break;
  }
  return "unknown";
}

Rejection check_segment(
  const SegmentRecord & segment, int64_t now_ns, const SegmentLimits & limits) noexcept
{
  if (segment.n_rows < 1 || segment.n_rows > kMaxRows) return Rejection::kRowCount;
  for (uint32_t i = 0; i < segment.n_rows; ++i)
  {
    Rejection reason = check_row(segment.rows[i]);
    if (reason == Rejection::kNone && is_too_fast(segment.rows[i], limits))
    {
      reason = Rejection::kSpeed;
    }
    if (reason == Rejection::kNone && i > 0)
    {
      reason = check_step(segment.rows[i - 1], segment.rows[i], limits);
    }
    if (reason != Rejection::kNone) return reason;
  }
  if (segment.rows[0].target_ns > now_ns + kFarFutureNs) return Rejection::kFarFuture;
  if (now_ns > end_of_segment_ns(segment)) return Rejection::kExpired;
  return Rejection::kNone;
}

int64_t end_of_segment_ns(const SegmentRecord & segment) noexcept
{
  return std::min(segment.rows[segment.n_rows - 1].target_ns, segment.valid_until_ns);
}

int64_t usable_until_ns(const LatencyStamp & stamp) noexcept
{
  if (stamp.hard_expire_ns <= 0) return std::numeric_limits<int64_t>::max();
  return stamp.hard_expire_ns - std::clamp<int64_t>(stamp.clock_err_ns, 0, kFarFutureNs);
}

void end_with_stamp(SegmentRecord & segment, const LatencyStamp & stamp) noexcept
{
  segment.valid_until_ns = std::min(segment.valid_until_ns, usable_until_ns(stamp));
}

void complete_twists(SegmentRecord & segment) noexcept
{
  const uint32_t n = segment.n_rows;
  for (uint32_t i = 0; i < n; ++i)
  {
    if (!twist_of(segment.rows[i]).isZero(0.0)) return;
  }
  Vector6 before = Vector6::Zero();
  double before_s = 0.0;
  for (uint32_t i = 0; i < n; ++i)
  {
    Vector6 after = Vector6::Zero();
    double after_s = 0.0;
    if (i + 1 < n)
    {
      const SegmentRow & a = segment.rows[i];
      const SegmentRow & b = segment.rows[i + 1];
      after_s = 1e-9 * static_cast<double>(b.target_ns - a.target_ns);
      after = pose_error(pose_of(a), pose_of(b)) / after_s;
    }
    // The slope of the parabola through three rows; at an end, that of the line through two.
    const double sum_s = before_s + after_s;
    if (sum_s > 0.0)
    {
      Eigen::Map<Vector6>{segment.rows[i].twist} =
        (before_s == 0.0 || after_s == 0.0)
          ? Vector6(before + after)
          : Vector6((after_s * before + before_s * after) / sum_s);
    }
    before = after;
    before_s = after_s;
  }
}

Sample sample_segment(const SegmentRecord & segment, int64_t now_ns) noexcept
{
  Sample sample;
  uint32_t next = 0;
  while (next < segment.n_rows && segment.rows[next].target_ns <= now_ns) ++next;
  if (next == 0 || next == segment.n_rows)
  {
    const SegmentRow & row = segment.rows[next == 0 ? 0 : segment.n_rows - 1];
    sample.pose = pose_of(row);
    if (next != 0) sample.twist = twist_of(row);
    sample.gripper_width_m = row.gripper_width_m;
    return sample;
  }
  const SegmentRow & a = segment.rows[next - 1];
  const SegmentRow & b = segment.rows[next];
  const double duration_s = 1e-9 * static_cast<double>(b.target_ns - a.target_ns);
  const PosePath path(pose_of(a), twist_of(a), pose_of(b), twist_of(b), duration_s);
  const Motion motion = path.at(1e-9 * static_cast<double>(now_ns - a.target_ns));
  sample.pose = motion.pose;
  sample.twist = motion.twist;
  sample.acceleration = motion.acceleration;
  sample.gripper_width_m = a.gripper_width_m;
  return sample;
}

}  // namespace vla_ros_core
