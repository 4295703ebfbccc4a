// SPDX-License-Identifier: Apache-2.0
// Plain records that cross process boundaries through shared memory. Little endian, no pointers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "vla_ros_core/sizes.hpp"

namespace vla_ros_core
{

inline constexpr uint32_t kStampMagic = 0x534C4156;  // "VALS"
inline constexpr uint16_t kStampVersion = 2;

/// What the control host does with the arm. Mirrors vla_ros.types.ControlMode.
enum class Mode : uint32_t
{
  kIdle = 0,     ///< started, nothing received yet: compliant hold at the start pose
  kTrack = 1,    ///< executing rows of a valid segment
  kBrake = 2,    ///< rows ran out or expired: the reference decelerates to rest
  kHold = 3,     ///< at rest, compliant
  kStopped = 4,  ///< stop requested: brakes, then compliant hold until resumed
  kFault = 5,    ///< own computation failed repeatedly: gravity and damping only
};

/// Provenance and age of a payload; the byte table is docs/latency-stamp.md.
struct LatencyStamp
{
  uint32_t magic;
  uint16_t version;
  uint16_t flags;
  uint8_t kind;
  uint8_t clock_domain;
  uint16_t horizon;
  float confidence;
  uint8_t clock_id[16];
  uint64_t seq;
  uint64_t parent_seq;
  uint64_t anchor_seq;
  uint64_t episode_id;
  uint32_t epoch;
  uint32_t instruction_id;
  uint64_t instruction_hash;
  uint64_t model_hash;
  uint64_t schema_hash;
  int64_t capture_oldest_ns;
  int64_t capture_newest_ns;
  int64_t state_ns;
  int64_t request_ns;
  int64_t infer_start_ns;
  int64_t infer_end_ns;
  int64_t publish_ns;
  int64_t target0_ns;
  int64_t dt_ns;
  int64_t delay_assumed_ns;
  int64_t soft_expire_ns;
  int64_t hard_expire_ns;
  int64_t clock_err_ns;
  uint16_t committed_len;
  uint8_t reserved[50];
  uint32_t crc32;
};
static_assert(sizeof(LatencyStamp) == 256);
static_assert(offsetof(LatencyStamp, capture_oldest_ns) == 96);
static_assert(offsetof(LatencyStamp, hard_expire_ns) == 184);
static_assert(offsetof(LatencyStamp, confidence) == 12);
static_assert(offsetof(LatencyStamp, committed_len) == 200);
static_assert(offsetof(LatencyStamp, crc32) == 252);

/// One end-effector target in the base frame. Twist is linear first [m/s, rad/s].
struct SegmentRow
{
  int64_t target_ns;
  double position[3];
  double quat_xyzw[4];
  double twist[6];
  double gripper_width_m;
};
static_assert(sizeof(SegmentRow) == 120);

/// Rows that may be executed, and until when, and under whose authority.
struct SegmentRecord
{
  uint32_t n_rows;
  uint32_t epoch;
  uint64_t episode_id;
  int64_t valid_until_ns;
  SegmentRow rows[kMaxRows];
};

/// Who may move the arm; written by the supervisor only.
struct LeaseRecord
{
  uint32_t instruction_id;  ///< rows of any other end within the braking time; 0: any instruction
  uint32_t epoch;
  int64_t expiry_ns;
  char source[kNameLength];
};
static_assert(sizeof(LeaseRecord) == 48);

/// What the host measured and asked for at one tick. Poses in base; twists linear first.
struct StateRecord
{
  uint64_t seq;
  int64_t tick_ns;
  uint32_t mode;
  uint32_t epoch;
  uint32_t n_joints;
  uint32_t scene_epoch;
  double q[kMaxJoints];
  double dq[kMaxJoints];
  double tau[kMaxJoints];
  double tau_external[kMaxJoints];  ///< joint torque by others, estimated [N·m]; 0: no estimate
  double position[3];
  double quat_xyzw[4];
  double twist[6];
  double ref_position[3];
  double ref_quat_xyzw[4];
  double ref_twist[6];
  double wrench_external[6];  ///< on the end effector, linear first [N, N·m]; 0: no estimate
  double gripper_width_m;
  double gripper_target_m;
  uint64_t segment_seq;        ///< ring number of the segment in force, 0 for none
  int64_t segment_capture_ns;  ///< capture time of the oldest cause of that segment
  int64_t segment_valid_until_ns;
  uint64_t stop_count;        ///< stops taken so far
  int64_t stop_requested_ns;  ///< when the last stop was asked for
  int64_t stop_received_ns;   ///< tick at which it was seen
  char source[kNameLength];   ///< who holds authority, empty for nobody
};

static_assert(std::is_trivially_copyable_v<SegmentRecord>);
static_assert(std::is_trivially_copyable_v<StateRecord>);

}  // namespace vla_ros_core
