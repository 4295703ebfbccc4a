// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "joint_rows.hpp"
#include "vla_ros_core/control_host.hpp"
#include "vla_ros_core/wrench_estimator.hpp"

namespace vla_ros_core
{

/// One end effector of a control host: its model, law, reference, targets and rings.
/// Real-time: everything but the constructor and set_* is noexcept and allocation-free.
class ArmChannel
{
public:
  /// `suffix` is appended to the names of the rings: empty for the first arm.
  ArmChannel(
    const ControlHostConfig & config, const ArmSetup & arm, const std::string & suffix,
    HostCounters & counters);

  /// Start at rest where the plant is.
  void begin(const Measurement & plant) noexcept;
  /// Take in a measurement and changed gains. False if it is not finite.
  bool read(const Measurement & plant, double dt_s) noexcept;
  /// Brake and forget what was followed.
  void release() noexcept;
  void take_segment(const Authority & authority, int64_t now_ns) noexcept
  {
    segments_.take(authority, now_ns, reference_);
  }
  /// `gate`: why plain targets are refused now, kNone if they lead.
  void update_reference(int64_t now_ns, double dt_s, Rejection gate) noexcept;
  void run_law(double dt_s) noexcept;
  /// External torque and wrench from the torque that acted since the last tick.
  void estimate(double dt_s) noexcept;
  void write(JointVector & plant_tau) const noexcept;
  /// Fill in what is the same for all arms before: seq, tick, mode, authority, stop.
  void publish(StateRecord & state, const LatencyStamp & stamp) noexcept;

  void set_law(const LawConfig & config, bool is_running);

  Mode mode() const noexcept { return is_led_by_targets_ ? stream_.mode() : reference_.mode(); }
  bool fault() const noexcept { return fault_; }
  void set_fault() noexcept { fault_ = true; }
  double gripper_width_m() const noexcept { return reference_.gripper_width_m(); }
  uint64_t expired_brakes() const noexcept { return reference_.expired_brakes() + stale_brakes_; }
  uint64_t rows_after_expiry() const noexcept { return reference_.rows_after_expiry(); }
  TargetStream & targets() noexcept { return stream_; }
  const std::string & ee_frame() const noexcept { return stream_.names().ee_frame; }
  const RobotModel & model() const noexcept { return *model_; }
  StateRecord last_state() const noexcept;

private:
  void take_law() noexcept;
  void open_targets(Rejection gate) noexcept;
  void fill_law_reference() noexcept;
  void fill_from_targets() noexcept;
  void set_present() noexcept;

  WorkspaceConfig workspace_;
  double initial_gripper_width_m_;
  std::shared_ptr<RobotModel> model_;
  JointRows rows_;
  HostCounters & counters_;
  SegmentInbox segments_;
  ReferenceGenerator reference_;
  TargetStream stream_;
  Law law_;
  ExternalWrenchEstimator estimator_;
  JointVector tau_before_;
  LawReference law_reference_;
  ShmRing state_ring_;
  JointVector q_, dq_;
  JointVector q_hold_;  ///< what kJoint holds until a joint target arrives
  bool is_led_by_targets_ = false;
  // While targets are refused and have faded, a tick does not touch them: one cache line less each.
  Rejection gate_ = Rejection::kNoAuthority;
  bool has_active_targets_ = false;
  bool has_joint_target_ = false;
  uint64_t stale_brakes_ = 0;
  int consecutive_failures_ = 0;
  bool fault_ = false;
  bool is_measured_ = true;
  LawConfig next_law_;
  std::atomic<bool> has_next_law_{false};
};

}  // namespace vla_ros_core
