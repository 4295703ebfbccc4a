// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_core/control_host.hpp"

#include <cmath>
#include <cstring>
#include <future>

#include "vla_ros_core/config_check.hpp"
#include "vla_ros_core/realtime.hpp"

namespace vla_ros_core
{

namespace
{

constexpr int kFailuresToFault = 5;
constexpr uint32_t kStateSlots = 2048;  // two seconds at 1 kHz: anchors of slow policies stay there
constexpr uint32_t kSegmentSlots = 8;
constexpr uint32_t kLeaseSlots = 4;

void copy_pose(const Pose & pose, double * position, double * quat_xyzw) noexcept
{
  Eigen::Map<Eigen::Vector3d>{position} = pose.position;
  Eigen::Map<Eigen::Vector4d>{quat_xyzw} = pose.rotation.coeffs();
}

}  // namespace

ControlHost::ControlHost(
  const ControlHostConfig & config, std::shared_ptr<RobotModel> model, std::shared_ptr<Plant> plant)
: config_(config),
  model_(std::move(model)),
  plant_(std::move(plant)),
  period_ns_(
    (check_range("rate_hz", config.rate_hz, 10.0, 4000.0),
     static_cast<int64_t>(std::llround(1e9 / config.rate_hz)))),
  dt_s_(1.0 / config.rate_hz),
  reference_(config.reference),
  law_(config.law, model_),
  lease_ring_(ShmRing::prepare(config.shm_prefix + ".lease", kLeaseSlots, sizeof(LeaseRecord), 0)),
  state_ring_(ShmRing::create(config.shm_prefix + ".state", kStateSlots, sizeof(StateRecord), 0)),
  stop_flag_(config.shm_prefix + ".stop")
{
  if (plant_->n_joints() != model_->n_joints())
  {
    throw Error(
      "the plant has " + std::to_string(plant_->n_joints()) + " joints, the model " +
      std::to_string(model_->n_joints()));
  }
  for (const std::string & source : config_.sources)
  {
    if (source.empty() || source.size() >= kNameLength)
    {
      throw Error("a source name needs 1 to 31 characters, got '" + source + "'");
    }
    sources_.push_back(
      {source,
       ShmRing::prepare(
         config_.shm_prefix + ".segment." + source, kSegmentSlots, sizeof(SegmentRecord), 0)});
    // What was sent before this host lived is not for it.
    sources_.back().last_seq = sources_.back().ring.head();
  }
  stops_seen_ = stop_flag_.count();
  begin_at_measured();
}

ControlHost::~ControlHost() { shutdown(); }

void ControlHost::begin_at_measured() noexcept
{
  plant_->read(measurement_);
  model_->update(measurement_.q, measurement_.dq);
  reference_.reset(model_->ee_pose(), config_.initial_gripper_width_m);
  law_.reset(
    law_.config().compensate_gravity ? model_->gravity() : JointVector::Zero(model_->n_joints()));
  fault_ = false;
  consecutive_failures_ = 0;
}

void ControlHost::tick(int64_t now_ns) noexcept
{
  if (plant_->apply_reset()) begin_at_measured();
  plant_->read(measurement_);
  ++seq_;
  take_law();
  if (!law_.update(measurement_.q, measurement_.dq, dt_s_)) fault_ = true;
  take_stop(now_ns);
  take_lease(now_ns);
  take_segment(now_ns);
  reference_.update(now_ns, dt_s_, model_->ee_pose());
  run_law();
  plant_->write(law_.tau(), reference_.gripper_width_m());
  publish_state(now_ns);
  counters_.ticks.fetch_add(1, std::memory_order_relaxed);
}

int64_t ControlHost::run_ticks(int64_t start_ns, uint64_t n) noexcept
{
  for (uint64_t i = 0; i < n; ++i)
  {
    tick(start_ns);
    plant_->advance();
    start_ns += period_ns_;
  }
  return start_ns;
}

void ControlHost::set_law(const LawConfig & config)
{
  config.validate(model_->n_joints());
  // The loop takes it within a tick; until then a second caller must not write over it.
  for (int i = 0; has_next_law_.load(std::memory_order_acquire) && running_ && i < 1000; ++i)
  {
    sleep_until_ns(monotonic_ns() + 1'000'000);
  }
  next_law_ = config;
  has_next_law_.store(true, std::memory_order_release);
}

void ControlHost::take_law() noexcept
{
  if (!has_next_law_.load(std::memory_order_acquire)) return;
  law_.apply(next_law_);
  has_next_law_.store(false, std::memory_order_release);
}

void ControlHost::take_stop(int64_t now_ns) noexcept
{
  const uint64_t count = stop_flag_.count();
  if (count != stops_seen_)
  {
    stops_seen_ = count;
    stopped_ = true;
    stop_received_ns_ = now_ns;
    counters_.stops.fetch_add(1, std::memory_order_relaxed);
    reference_.release();
    // A stop wins over a resume that arrived in the same tick.
    resume_requested_.store(false);
  }
  else if (resume_requested_.exchange(false))
  {
    stopped_ = false;
  }
}

void ControlHost::take_lease(int64_t now_ns) noexcept
{
  LeaseRecord lease{};
  if (lease_ring_.read_latest(nullptr, &lease, sizeof(lease), nullptr) != 0) lease_ = lease;
  Source * holder = nullptr;
  if (lease_.expiry_ns > now_ns)
  {
    for (Source & source : sources_)
    {
      if (std::strncmp(source.name.c_str(), lease_.source, kNameLength) == 0) holder = &source;
    }
  }
  const uint32_t epoch = holder == nullptr ? 0 : lease_.epoch;
  if (holder != authority_ || epoch != epoch_)
  {
    authority_ = holder;
    epoch_ = epoch;
    reference_.release();
  }
}

void ControlHost::take_segment(int64_t now_ns) noexcept
{
  if (authority_ == nullptr || stopped_ || fault_) return;
  if (authority_->ring.head() == authority_->last_seq) return;
  LatencyStamp stamp{};
  uint64_t bytes = 0;
  const uint64_t seq = authority_->ring.read_latest(&stamp, &incoming_, sizeof(incoming_), &bytes);
  if (seq == 0) return;
  authority_->last_seq = seq;
  const uint64_t needed = offsetof(SegmentRecord, rows) + incoming_.n_rows * sizeof(SegmentRow);
  Rejection reason = Rejection::kRowCount;
  if (bytes >= offsetof(SegmentRecord, rows) && incoming_.n_rows <= kMaxRows && bytes >= needed)
  {
    reason = check_segment(incoming_, now_ns, config_.segment_limits);
  }
  if (reason == Rejection::kNone && incoming_.epoch != epoch_) reason = Rejection::kEpoch;
  if (reason != Rejection::kNone)
  {
    counters_.rejected[static_cast<size_t>(reason)].fetch_add(1, std::memory_order_relaxed);
    return;
  }
  reference_.accept(incoming_, seq, stamp, now_ns);
  counters_.accepted.fetch_add(1, std::memory_order_relaxed);
}

void ControlHost::run_law() noexcept
{
  if (fault_)
  {
    law_.compute_damping(dt_s_);
    return;
  }
  law_reference_.pose = reference_.pose();
  law_reference_.twist = reference_.twist();
  const LawStatus status = law_.compute(law_reference_, dt_s_);
  if (status == LawStatus::kTorqueRateLimited)
  {
    counters_.rate_limited_ticks.fetch_add(1, std::memory_order_relaxed);
  }
  else if (status == LawStatus::kTorqueLimited)
  {
    counters_.torque_limited_ticks.fetch_add(1, std::memory_order_relaxed);
  }
  if (status != LawStatus::kNotFinite)
  {
    consecutive_failures_ = 0;
    return;
  }
  counters_.not_finite.fetch_add(1, std::memory_order_relaxed);
  reference_.release();
  if (++consecutive_failures_ >= kFailuresToFault) fault_ = true;
}

Mode ControlHost::mode() const noexcept
{
  if (fault_) return Mode::kFault;
  if (stopped_) return Mode::kStopped;
  return reference_.mode();
}

void ControlHost::publish_state(int64_t now_ns) noexcept
{
  StateRecord & s = state_;
  const int n = model_->n_joints();
  s.seq = seq_;
  s.tick_ns = now_ns;
  s.mode = static_cast<uint32_t>(mode());
  s.epoch = epoch_;
  s.n_joints = static_cast<uint32_t>(n);
  s.scene_epoch = plant_->scene_epoch();
  for (int i = 0; i < n; ++i)
  {
    s.q[i] = measurement_.q[i];
    s.dq[i] = measurement_.dq[i];
    s.tau[i] = law_.tau()[i];
  }
  copy_pose(model_->ee_pose(), s.position, s.quat_xyzw);
  copy_pose(reference_.pose(), s.ref_position, s.ref_quat_xyzw);
  Eigen::Map<Vector6>{s.twist} = model_->ee_twist();
  Eigen::Map<Vector6>{s.ref_twist} = reference_.twist();
  s.gripper_width_m = measurement_.gripper_width_m;
  s.gripper_target_m = reference_.gripper_width_m();
  s.segment_seq = reference_.segment_seq();
  s.segment_capture_ns = reference_.segment_capture_ns();
  s.segment_valid_until_ns = reference_.segment_valid_until_ns();
  s.stop_count = stops_seen_;
  s.stop_requested_ns = stop_flag_.requested_ns();
  s.stop_received_ns = stop_received_ns_;
  std::strncpy(s.source, authority_ == nullptr ? "" : authority_->name.c_str(), kNameLength);
  LatencyStamp stamp{};
  stamp.magic = kStampMagic;
  stamp.version = 1;
  stamp.seq = seq_;
  stamp.state_ns = now_ns;
  state_ring_.write(stamp, &s, sizeof(s));
  plant_->publish(seq_, now_ns);
  counters_.expired_brakes.store(reference_.expired_brakes(), std::memory_order_relaxed);
  counters_.rows_after_expiry.store(reference_.rows_after_expiry(), std::memory_order_relaxed);
}

StateRecord ControlHost::last_state() const noexcept
{
  StateRecord record{};
  state_ring_.read_latest(nullptr, &record, sizeof(record), nullptr);
  return record;
}

void ControlHost::start(const std::string & priority)
{
  if (running_.exchange(true)) throw Error("the control host is already running");
  std::promise<std::string> obtained;
  std::future<std::string> answer = obtained.get_future();
  thread_ = std::thread(
    [this, priority, promise = std::move(obtained)]() mutable
    {
      try
      {
        promise.set_value(raise_thread_priority(priority));
      }
      catch (...)
      {
        promise.set_exception(std::current_exception());
        return;
      }
      loop();
    });
  try
  {
    priority_ = answer.get();
  }
  catch (...)
  {
    thread_.join();
    running_ = false;
    throw;
  }
}

void ControlHost::shutdown()
{
  running_ = false;
  if (thread_.joinable()) thread_.join();
}

void ControlHost::loop()
{
  int64_t deadline = monotonic_ns() + period_ns_;
  int64_t last_wake = 0;
  while (running_.load(std::memory_order_relaxed))
  {
    sleep_until_ns(deadline);
    const int64_t wake = monotonic_ns();
    if (last_wake != 0) period_.add(wake - last_wake);
    last_wake = wake;
    tick(wake);
    const int64_t computed = monotonic_ns();
    plant_->advance();
    const int64_t end = monotonic_ns();
    compute_.add(computed - wake);
    plant_time_.add(end - computed);
    deadline += period_ns_;
    if (end > deadline)
    {
      // No catch-up: ticks that cannot start on time any more do not take place.
      const int64_t missed = (end - deadline) / period_ns_ + 1;
      counters_.skipped.fetch_add(static_cast<uint64_t>(missed), std::memory_order_relaxed);
      deadline += missed * period_ns_;
    }
  }
}

void ControlHost::clear_timing() noexcept
{
  period_.clear();
  compute_.clear();
  plant_time_.clear();
}

}  // namespace vla_ros_core
