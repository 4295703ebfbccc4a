// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "vla_ros_core/law.hpp"
#include "vla_ros_core/time_index.hpp"

namespace vla_ros_core
{

/// Where the end effector shall be now. Base frame; twist linear first, at the end effector.
struct PoseTarget
{
  int64_t stamp_ns = 0;  ///< when it was meant; 0: when it arrives
  double position[3] = {};
  double quat_xyzw[4] = {0.0, 0.0, 0.0, 1.0};
  double twist[6] = {};    ///< [m/s, rad/s]
  uint64_t has_twist = 0;  ///< 0: estimated from the targets before
};

/// Joint positions in the order of the model: target of LawKind::kJoint, else posture.
struct JointTarget
{
  int64_t stamp_ns = 0;
  double q[kMaxJoints] = {};   ///< [rad]
  double dq[kMaxJoints] = {};  ///< [rad/s]
  uint64_t has_dq = 0;
};

/// Wrench that the arm shall apply to the world, linear first [N, N·m].
struct WrenchTarget
{
  int64_t stamp_ns = 0;
  double wrench[6] = {};
  uint64_t in_tool_axes = 0;  ///< along the axes of the end effector in place of those of the base
};

/// Limits that targets are checked against, and how a stream of them becomes a motion.
struct TargetConfig
{
  double max_speed_m_s = 0.8;  ///< of the reference; the same for a twist that comes with a target
  double max_speed_rad_s = 2.0;
  double max_acceleration_m_s2 = 5.0;  ///< of the reference
  double max_acceleration_rad_s2 = 15.0;
  double brake_m_s2 = 2.0;  ///< deceleration when targets stay away
  double brake_rad_s2 = 6.0;
  double max_joint_speed_rad_s = 1.5;
  double max_joint_acceleration_rad_s2 = 8.0;
  double max_distance_m = 0.5;  ///< a target further than this from the reference is refused
  double max_angle_rad = 1.6;
  double max_joint_distance_rad = 1.0;
  double max_force_n = 60.0;
  double max_torque_nm = 15.0;
  double max_age_s = 0.5;              ///< stamped longer ago: refused
  double max_ahead_s = 0.05;           ///< stamped further ahead: refused, another clock
  double max_extrapolation_s = 0.06;   ///< how far a motion is carried on beyond its last target
  double timeout_s = 0.6;              ///< without a new target for this long: compliant hold
  double wrench_decay_s = 0.2;         ///< time constant of a wrench that is not renewed
  double hold_time_constant_s = 0.03;  ///< how fast the reference goes where a hold begins
  bool acceleration_feed_forward = false;

  /// Throws Error naming the field and its allowed range.
  void validate() const;
};

/// What targets may refer to.
struct TargetNames
{
  std::string base_frame;
  std::string ee_frame;
  std::vector<std::string> frames;       ///< all of the robot
  std::vector<std::string> joint_names;  ///< of the arm, in the order of the model
  JointVector q_min;                     ///< [rad]
  JointVector q_max;

  /// Names of an arm; frames and joint limits come from its model.
  static TargetNames of_arm(
    const RobotModel & model, const std::string & base_frame, const std::string & ee_frame,
    const std::vector<std::string> & joint_names);
};

/// What the arm is asked for at the moment; targets may not be too far from it.
struct PresentReference
{
  double position[3] = {};
  double quat_xyzw[4] = {0.0, 0.0, 0.0, 1.0};
  double q[kMaxJoints] = {};  ///< [rad]
};

/// Check a target. An empty frame is the base frame: a header that names no frame contradicts
/// nothing. `now_ns` and stamps are of one clock. Real-time: noexcept, no allocation.
Rejection check_target_pose(
  const PoseTarget & target, const std::string & frame, const TargetNames & names,
  const TargetConfig & config, const PresentReference & present, int64_t now_ns) noexcept;

/// Check a target for the joints of the arm, in any order but all of them, and bring it into the
/// model's order. `dq` may be empty.
Rejection check_target_joint(
  const std::vector<std::string> & joint_names, const std::vector<double> & q,
  const std::vector<double> & dq, const TargetNames & names, const TargetConfig & config,
  const PresentReference & present, int64_t now_ns, JointTarget & target) noexcept;

/// Check a wrench. In the frame of the end effector it is taken along its axes.
Rejection check_target_wrench(
  WrenchTarget & target, const std::string & frame, const TargetNames & names,
  const TargetConfig & config, int64_t now_ns) noexcept;

/// Turns single targets, which arrive at any rate from 2 to 250 Hz, into a continuous reference.
///
/// Every target starts a path of about one period from the motion in force to where the targets
/// will be by then, with their velocity: position and twist of the reference are continuous, and
/// at 17 Hz and more there is no delay. Speed and acceleration are bounded: a target that would
/// need more is reached later. A late target is waited for in motion for max_extrapolation_s, then
/// at rest; after timeout_s a compliant hold begins where the arm is and the wrench fades.
///
/// Thread-safety: set_*() from any thread, they never make the loop wait; the rest by the loop.
/// Real-time: what the loop calls is noexcept and does not allocate.
class TargetStream
{
public:
  TargetStream(const TargetConfig & config, TargetNames names);
  ~TargetStream();
  TargetStream(const TargetStream &) = delete;
  TargetStream & operator=(const TargetStream &) = delete;

  Rejection set_pose(PoseTarget target, const std::string & frame, int64_t now_ns) noexcept;
  Rejection set_joint(
    const std::vector<std::string> & joint_names, const std::vector<double> & q,
    const std::vector<double> & dq, int64_t stamp_ns, int64_t now_ns) noexcept;
  Rejection set_wrench(WrenchTarget target, const std::string & frame, int64_t now_ns) noexcept;

  /// Whether targets are taken: kNone, or the reason that every one of them is refused for.
  void set_gate(Rejection reason) noexcept;

  /// Say where the reference is, before targets are let in and as long as they are: anything new
  /// is judged by its distance from there.
  void set_present(const Pose & pose, const JointVector & q) noexcept;

  /// True if a target has arrived that update() has not seen.
  bool is_pending() const noexcept;
  /// Go on from a motion that somebody else has led; forget all targets but pending ones.
  void begin(const Pose & pose, const Vector6 & twist, const JointVector & q) noexcept;
  /// Advance to `now_ns`. `measured` is where the arm is: a hold begins there.
  void update(int64_t now_ns, double dt_s, const Pose & measured) noexcept;
  /// In place of update() while others lead: pending targets are dropped, the wrench fades.
  void relax(double dt_s) noexcept;
  /// Nothing left for relax() to do.
  bool is_at_rest() const noexcept;
  /// No joint target and no wrench from now on.
  void forget() noexcept;

  /// kTrack while any target is fresh, then kBrake, then kHold.
  Mode mode() const noexcept;
  const Pose & pose() const noexcept;
  const Vector6 & twist() const noexcept;
  const Vector6 & acceleration() const noexcept;  ///< zero unless asked for
  /// Empty until a joint target has arrived.
  const JointVector & q() const noexcept;
  const JointVector & dq() const noexcept;
  /// Along base axes, given the orientation of the end effector.
  Vector6 wrench(const Eigen::Quaterniond & ee_rotation) const noexcept;
  double period_s() const noexcept;  ///< estimated, of pose targets
  uint64_t stale_brakes() const noexcept;
  const TargetConfig & config() const noexcept;
  const TargetNames & names() const noexcept;

private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vla_ros_core
