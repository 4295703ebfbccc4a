// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "vla_ros_core/pose.hpp"
#include "vla_ros_core/records.hpp"

namespace vla_ros_core
{

/// Why a segment was not taken over; kNone if it was.
enum class Rejection : uint32_t
{
  kNone = 0,
  kRowCount,    ///< no rows or too many
  kNotFinite,   ///< NaN or infinity
  kQuaternion,  ///< norm differs from 1 by more than 1e-3
  kTimeOrder,   ///< row times do not increase
  kFarFuture,   ///< rows more than 10 s ahead: another clock
  kSpeed,       ///< rows ask for more than three times the speed limit
  kExpired,     ///< valid_until has passed, or every row has
  kEpoch,       ///< not made under the authority in force
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

/// Reference at one instant.
struct Sample
{
  Pose pose;
  Vector6 twist = Vector6::Zero();
  double gripper_width_m = 0.0;
};

/// Where the rows say the end effector should be at `now_ns`: linear between positions and twists,
/// SLERP between rotations, hold for the gripper. Before the first row: the first row at rest.
/// The caller has made sure that `now_ns` is not after the last row.
/// Real-time: noexcept, no allocation.
Sample sample_segment(const SegmentRecord & segment, int64_t now_ns) noexcept;

/// Last instant at which rows of this segment may be executed [ns].
int64_t end_of_segment_ns(const SegmentRecord & segment) noexcept;

}  // namespace vla_ros_core
