// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "vla_ros_core/time_index.hpp"
#include "vla_ros_core/time_warp.hpp"

namespace vla_ros_core
{

struct ReferenceConfig
{
  double max_speed_m_s = 0.8;  ///< reference never moves faster
  double max_speed_rad_s = 2.0;
  double brake_m_s2 = 2.0;  ///< deceleration when rows run out
  double brake_rad_s2 = 6.0;
  double seam_time_constant_s = 0.03;      ///< how fast the jump at a segment switch is faded out
  bool acceleration_feed_forward = false;  ///< hand the law the acceleration of the rows too

  /// Throws Error naming the field and its allowed range.
  void validate() const;
};

/// Turns segments into a continuous reference: time index, seam fade, speed limit, brake, hold.
///
/// Between soft and hard expiry of the stamp the rows are passed ever more slowly (time_warp.hpp).
/// A younger segment is executed at its own times; one of the same cause keeps the lag, as far as
/// its rows reach back, so that sending the same rows again does not undo the slowing.
///
/// Guarantees: position and velocity of the reference are continuous over every switch of segment;
/// no row is executed after the end of its segment; without a segment the reference comes to rest
/// within v / brake and stays where the arm is then.
/// Real-time: every method but the constructor is noexcept and allocation-free.
class ReferenceGenerator
{
public:
  explicit ReferenceGenerator(const ReferenceConfig & config);

  /// Start at rest at `pose`; forget every segment.
  void reset(const Pose & pose, double gripper_width_m) noexcept;

  /// Take over a segment that was checked. The jump to it is faded out, not executed.
  void accept(
    const SegmentRecord & segment, uint64_t segment_seq, const LatencyStamp & stamp,
    int64_t now_ns) noexcept;

  /// The instruction in force, 0 for any. When it changes, rows of another one go on for the
  /// time that braking takes, at most for three rows.
  void set_instruction(uint32_t instruction_id, int64_t now_ns) noexcept;

  /// True if a segment with this stamp belongs to the instruction in force.
  bool is_of_instruction(const LatencyStamp & stamp) const noexcept
  {
    return instruction_id_ == 0 || stamp.instruction_id == instruction_id_;
  }

  /// Drop the segment in force and brake.
  void release() noexcept;

  /// Brake from a motion that somebody else has led so far.
  void brake_from(const Pose & pose, const Vector6 & twist) noexcept;

  /// Advance to `now_ns`. `measured` is where the arm is: a hold begins there.
  void update(int64_t now_ns, double dt_s, const Pose & measured) noexcept;

  Mode mode() const noexcept { return mode_; }
  const Pose & pose() const noexcept { return pose_; }
  const Vector6 & twist() const noexcept { return twist_; }
  /// Zero unless asked for in the configuration.
  const Vector6 & acceleration() const noexcept { return acceleration_; }
  double gripper_width_m() const noexcept { return gripper_width_m_; }
  uint64_t segment_seq() const noexcept { return has_segment_ ? segment_seq_ : 0; }
  int64_t segment_capture_ns() const noexcept { return has_segment_ ? capture_ns_ : 0; }
  int64_t segment_valid_until_ns() const noexcept
  {
    return has_segment_ ? segment_.valid_until_ns : 0;
  }
  /// How fast rows are passed at the last update: 1, falling to 0 between soft and hard expiry.
  double speed_scale() const noexcept { return has_segment_ ? warp_.rate(updated_ns_) : 1.0; }
  uint64_t expired_brakes() const noexcept { return expired_brakes_; }
  uint64_t rows_after_expiry() const noexcept { return rows_after_expiry_; }

private:
  void track(int64_t now_ns, double dt_s) noexcept;
  void brake(double dt_s) noexcept;
  void hold(double dt_s) noexcept;
  void fade(double dt_s) noexcept;
  int64_t instruction_grace_ns() const noexcept;

  ReferenceConfig config_;
  Mode mode_ = Mode::kIdle;
  SegmentRecord segment_{};
  bool has_segment_ = false;
  int64_t updated_ns_ = 0;
  uint64_t segment_seq_ = 0;
  int64_t capture_ns_ = 0;
  int64_t end_ns_ = 0;  // last instant at which rows of the segment are executed
  TimeWarp warp_;
  uint32_t segment_instruction_id_ = 0;
  uint32_t instruction_id_ = 0;
  Pose pose_;
  Vector6 twist_ = Vector6::Zero();
  Vector6 acceleration_ = Vector6::Zero();
  double gripper_width_m_ = 0.0;
  Pose hold_pose_;
  Vector6 offset_ = Vector6::Zero();  // reference minus target: translation, rotation vector
  Vector6 offset_rate_ = Vector6::Zero();
  uint64_t expired_brakes_ = 0;
  uint64_t rows_after_expiry_ = 0;
};

}  // namespace vla_ros_core
