// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "vla_ros_core/authority.hpp"
#include "vla_ros_core/histogram.hpp"
#include "vla_ros_core/law.hpp"
#include "vla_ros_core/plant.hpp"
#include "vla_ros_core/reference.hpp"
#include "vla_ros_core/segment_inbox.hpp"
#include "vla_ros_core/target.hpp"
#include "vla_ros_core/workspace.hpp"

namespace vla_ros_core
{

class ArmChannel;

/// One end effector that a control host drives.
struct ArmSetup
{
  std::shared_ptr<RobotModel> model;
  LawConfig law;
  TargetNames names;
  bool robot_adds_gravity = false;  ///< torques handed to the plant lack gravity
};

/// An empty `target_source` means here that plain targets are refused.
struct ControlHostConfig : AuthorityConfig
{
  double rate_hz = 1000.0;
  std::vector<std::string> plant_joint_names;  ///< in the order of the plant
  double initial_gripper_width_m = 0.08;
  ReferenceConfig reference;
  TargetConfig target;
  SegmentLimits segment_limits;
  WorkspaceConfig workspace;
};

/// Numbers for diagnostics. Thread-safety: written by the loop, read by anyone.
struct HostCounters : SegmentCounters
{
  std::atomic<uint64_t> ticks{0};
  std::atomic<uint64_t> skipped{0};
  std::atomic<uint64_t> targets_accepted{0};
  std::array<std::atomic<uint64_t>, static_cast<size_t>(Rejection::kCount)> targets_rejected{};
  std::atomic<uint64_t> expired_brakes{0};
  std::atomic<uint64_t> rows_after_expiry{0};
  std::atomic<uint64_t> not_finite{0};
  std::atomic<uint64_t> stops{0};
  std::atomic<uint64_t> rate_limited_ticks{0};
  std::atomic<uint64_t> torque_limited_ticks{0};
};

/// The one loop that owns the arm: wait -> read -> time index, brake, law -> write -> snapshot.
///
/// It needs no other process: when segments, leases or whole processes disappear it brakes and
/// holds compliantly by itself. tick() is all of it but the waiting, so that virtual time runs the
/// same code. Several arms of one plant share lease, stop and clock; each has its own rings, with
/// `.<ee_frame>` appended to their names for all but the first. A fault of one arm makes the others
/// brake and hold. Real-time: tick() is noexcept, takes no lock and does not allocate.
class ControlHost
{
public:
  /// Throws Error if arms and plant do not fit each other or a setting is refused.
  ControlHost(
    const ControlHostConfig & config, const std::vector<ArmSetup> & arms,
    std::shared_ptr<Plant> plant);
  ~ControlHost();
  ControlHost(const ControlHost &) = delete;
  ControlHost & operator=(const ControlHost &) = delete;

  /// One control period at `now_ns` (CLOCK_MONOTONIC or virtual).
  void tick(int64_t now_ns) noexcept;

  /// Virtual time: `n` ticks starting at `start_ns`; returns the time after the last one.
  int64_t run_ticks(int64_t start_ns, uint64_t n) noexcept;

  /// Start the thread. `priority`: auto, fifo (Error if not permitted) or normal.
  void start(const std::string & priority);
  /// Stop the thread; the arm is left to the robot's own safe state.
  void shutdown();
  bool running() const noexcept { return running_.load(); }

  /// Brake and hold until resume(). Any thread.
  void stop() noexcept { authority_.raise_stop_flag(); }
  /// Accept segments again after a stop. Any thread.
  void resume() noexcept { authority_.request_resume(); }

  /// Use other gains and settings of the law from the next tick on; gains are ramped. Throws Error
  /// naming the field and its range, or the arms there are. An empty `ee_frame` means the first
  /// arm. Any thread but the loop's own, one at a time.
  void set_law(const LawConfig & config, const std::string & ee_frame = "");

  /// Follow a single target, if the arm has been granted to plain targets. Returns why it is
  /// refused, else kNone. A stamp of 0 means now; without a clock of its own, now is the last tick.
  /// Any thread; the loop is never made to wait.
  Rejection set_target_pose(
    const PoseTarget & target, const std::string & frame, const std::string & ee_frame) noexcept;
  Rejection set_target_joint(
    const std::vector<std::string> & joint_names, const std::vector<double> & q,
    const std::vector<double> & dq, int64_t stamp_ns, const std::string & ee_frame) noexcept;
  Rejection set_target_wrench(
    const WrenchTarget & target, const std::string & frame, const std::string & ee_frame) noexcept;

  const HostCounters & counters() const noexcept { return counters_; }
  DurationHistogram & period_histogram() noexcept { return period_; }
  DurationHistogram & compute_histogram() noexcept { return compute_; }
  DurationHistogram & plant_histogram() noexcept { return plant_time_; }
  void clear_timing() noexcept;
  /// Scheduling obtained by the thread, for people.
  const std::string & priority() const noexcept { return priority_; }
  int64_t period_ns() const noexcept { return period_ns_; }
  /// Newest state of an arm; all zeros if there is no such end effector.
  StateRecord last_state(const std::string & ee_frame = "") const noexcept;
  std::vector<std::string> ee_frames() const;

private:
  void loop();
  void begin_at_measured() noexcept;
  void release() noexcept;
  Mode mode_of(const ArmChannel & arm) const noexcept;
  void publish_state(int64_t now_ns) noexcept;
  ArmChannel * find_arm(const std::string & ee_frame) const noexcept;
  Rejection count_target(Rejection reason) noexcept;

  std::shared_ptr<Plant> plant_;
  int64_t period_ns_;
  double dt_s_;
  HostCounters counters_;
  std::vector<std::unique_ptr<ArmChannel>> arms_;
  Authority authority_;
  Measurement measurement_;
  JointVector tau_;
  bool fault_ = false;
  uint64_t seq_ = 0;
  StateRecord state_{};
  std::atomic<int64_t> now_ns_{0};
  DurationHistogram period_;
  DurationHistogram compute_;
  DurationHistogram plant_time_;
  std::atomic<bool> running_{false};
  std::string priority_ = "not started";
  std::thread thread_;
};

}  // namespace vla_ros_core
