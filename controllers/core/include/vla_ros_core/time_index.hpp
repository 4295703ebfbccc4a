// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "vla_ros_core/pose.hpp"
#include "vla_ros_core/records.hpp"

namespace vla_ros_core
{

/// Why a segment or a target was not taken over; kNone if it was.
enum class Rejection : uint32_t
{
  kNone = 0,
  kRowCount,       ///< no rows or too many
  kNotFinite,      ///< NaN or infinity
  kQuaternion,     ///< norm differs from 1 by more than 1e-3
  kTimeOrder,      ///< row times do not increase
  kFarFuture,      ///< rows more than 10 s ahead: another clock
  kSpeed,          ///< rows ask for more than three times the speed limit
  kExpired,        ///< valid_until has passed, or every row has
  kEpoch,          ///< not made under the authority in force
  kInstruction,    ///< made for another instruction than the one in force
  kWrongFrame,     ///< target in a frame of the robot that is not the one asked for
  kUnknownFrame,   ///< target in a frame that the robot does not have
  kLength,         ///< target with another number of values than joints or axes
  kUnknownJoint,   ///< target for a joint that is not of this arm
  kRepeatedJoint,  ///< target that names a joint twice
  kJointLimit,     ///< target beyond a joint limit
  kTooFar,         ///< target too far from the reference in force; row beyond any arm
  kTooFast,        ///< target twist or joint velocity above its limit
  kTooLarge,       ///< target wrench above its limit
  kFuture,         ///< target stamped in the future
  kTooOld,         ///< target stamped too long ago
  kOutOfOrder,     ///< target stamped before one that was taken over
  kNoAuthority,    ///< nobody has granted this source the arm
  kStopped,        ///< stop or fault in force
  kUnknownArm,     ///< no such end effector
  kCount
};

const char * to_string(Rejection reason) noexcept;

/// Limits that a segment is checked against before it is taken over.
struct SegmentLimits
{
  double max_speed_m_s = 5.0;
  double max_speed_rad_s = 15.0;
};

/// Check everything about a segment that arrived. Real-time: noexcept, no allocation.
Rejection check_segment(
  const SegmentRecord & segment, int64_t now_ns, const SegmentLimits & limits) noexcept;

/// Last instant at which anything may act on a payload: the hard expiry of its stamp less the
/// uncertainty of the clock; the largest number if the stamp has none. Real-time: noexcept.
int64_t usable_until_ns(const LatencyStamp & stamp) noexcept;

/// Let the segment end with the its stamp where that is earlier than what it says of itself.
/// Real-time: noexcept, no allocation.
void end_with_stamp(SegmentRecord & segment, const LatencyStamp & stamp) noexcept;

/// Reference at one instant.
struct Sample
{
  Pose pose;
  Vector6 twist = Vector6::Zero();
  Vector6 acceleration = Vector6::Zero();
  double gripper_width_m = 0.0;
};

/// Give a segment whose rows all have zero twist, though they are at different poses, the twists
/// of its motion: its sender left them out. Ends are one-sided differences, the others weigh both
/// neighbours. A zero twist beside others that are not zero means rest and is left alone.
/// Real-time: noexcept, no allocation.
void complete_twists(SegmentRecord & segment) noexcept;

/// Where the rows say the end effector should be at `now_ns`: between two rows a cubic that meets
/// pose and twist of both, so that pose and twist are continuous; hold for the gripper. Before the
/// first row: the first row at rest. The caller has made sure that `now_ns` is not after the last
/// row. Real-time: noexcept, no allocation.
Sample sample_segment(const SegmentRecord & segment, int64_t now_ns) noexcept;

/// Last instant at which rows of this segment may be executed [ns].
int64_t end_of_segment_ns(const SegmentRecord & segment) noexcept;

}  // namespace vla_ros_core
