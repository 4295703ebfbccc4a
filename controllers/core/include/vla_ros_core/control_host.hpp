// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "vla_ros_core/histogram.hpp"
#include "vla_ros_core/law.hpp"
#include "vla_ros_core/plant.hpp"
#include "vla_ros_core/reference.hpp"
#include "vla_ros_core/shm_ring.hpp"

namespace vla_ros_core
{

struct ControlHostConfig
{
  double rate_hz = 1000.0;
  std::string shm_prefix;
  std::vector<std::string> sources;  ///< who may send segments; one ring each
  double initial_gripper_width_m = 0.08;
  ReferenceConfig reference;
  SegmentLimits segment_limits;
  LawConfig law;
};

/// Numbers for diagnostics. Thread-safety: written by the loop, read by anyone.
struct HostCounters
{
  std::atomic<uint64_t> ticks{0};
  std::atomic<uint64_t> skipped{0};
  std::atomic<uint64_t> accepted{0};
  std::array<std::atomic<uint64_t>, static_cast<size_t>(Rejection::kCount)> rejected{};
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
/// same code. Real-time: tick() is noexcept, takes no lock and does not allocate.
class ControlHost
{
public:
  ControlHost(
    const ControlHostConfig & config, std::shared_ptr<RobotModel> model,
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
  void stop() noexcept { stop_flag_.request(); }
  /// Accept segments again after a stop. Any thread.
  void resume() noexcept { resume_requested_.store(true); }

  /// Use other gains and settings of the law from the next tick on; gains are ramped. Throws Error
  /// naming the field and its range. Any thread but the loop's own, one at a time.
  void set_law(const LawConfig & config);

  const HostCounters & counters() const noexcept { return counters_; }
  DurationHistogram & period_histogram() noexcept { return period_; }
  DurationHistogram & compute_histogram() noexcept { return compute_; }
  DurationHistogram & plant_histogram() noexcept { return plant_time_; }
  void clear_timing() noexcept;
  /// Scheduling obtained by the thread, for people.
  const std::string & priority() const noexcept { return priority_; }
  int64_t period_ns() const noexcept { return period_ns_; }
  StateRecord last_state() const noexcept;

private:
  struct Source
  {
    std::string name;
    ShmRing ring;
    uint64_t last_seq = 0;
  };

  void loop();
  void take_law() noexcept;
  void take_stop(int64_t now_ns) noexcept;
  void take_lease(int64_t now_ns) noexcept;
  void take_segment(int64_t now_ns) noexcept;
  void begin_at_measured() noexcept;
  void run_law() noexcept;
  void publish_state(int64_t now_ns) noexcept;
  Mode mode() const noexcept;

  ControlHostConfig config_;
  std::shared_ptr<RobotModel> model_;
  std::shared_ptr<Plant> plant_;
  int64_t period_ns_;
  double dt_s_;
  ReferenceGenerator reference_;
  Law law_;
  LawReference law_reference_;
  std::vector<Source> sources_;
  ShmRing lease_ring_;
  ShmRing state_ring_;
  StopFlag stop_flag_;
  Measurement measurement_;
  LeaseRecord lease_{};
  Source * authority_ = nullptr;
  uint32_t epoch_ = 0;
  uint64_t stops_seen_ = 0;
  int64_t stop_received_ns_ = 0;
  bool stopped_ = false;
  int consecutive_failures_ = 0;
  bool fault_ = false;
  uint64_t seq_ = 0;
  SegmentRecord incoming_{};
  StateRecord state_{};
  HostCounters counters_;
  DurationHistogram period_;
  DurationHistogram compute_;
  DurationHistogram plant_time_;
  std::atomic<bool> resume_requested_{false};
  LawConfig next_law_;
  std::atomic<bool> has_next_law_{false};
  std::atomic<bool> running_{false};
  std::string priority_ = "not started";
  std::thread thread_;
};

}  // namespace vla_ros_core
