// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_core/control_host.hpp"

#include <cmath>
#include <cstring>
#include <future>

#include "arm_channel.hpp"
#include "vla_ros_core/config_check.hpp"
#include "vla_ros_core/realtime.hpp"

namespace vla_ros_core
{

namespace
{

AuthorityConfig authority_config(const ControlHostConfig & config)
{
  if (config.shm_prefix.empty()) throw Error("shm_prefix of a control host must not be empty");
  AuthorityConfig authority = config;
  authority.targets_need_lease = config.targets_need_lease || config.target_source.empty();
  return authority;
}

}  // namespace

ControlHost::ControlHost(
  const ControlHostConfig & config, const std::vector<ArmSetup> & arms,
  std::shared_ptr<Plant> plant)
: plant_(std::move(plant)),
  period_ns_(
    (check_range("rate_hz", config.rate_hz, 10.0, 4000.0),
     static_cast<int64_t>(std::llround(1e9 / config.rate_hz)))),
  dt_s_(1.0 / config.rate_hz),
  authority_(authority_config(config))
{
  int n_joints = 0;
  for (const ArmSetup & arm : arms)
  {
    const std::string suffix = arms_.empty() ? "" : "." + arm.names.ee_frame;
    if (find_arm(arm.names.ee_frame) != nullptr && !arms_.empty())
    {
      throw Error("two arms have the end effector '" + arm.names.ee_frame + "'");
    }
    arms_.push_back(std::make_unique<ArmChannel>(config, arm, suffix, counters_));
    n_joints += arm.model->n_joints();
  }
  if (plant_->n_joints() != n_joints || arms_.empty())
  {
    throw Error(
      "the plant has " + std::to_string(plant_->n_joints()) + " joints, the arms " +
      std::to_string(n_joints));
  }
  tau_.setZero(n_joints);
  begin_at_measured();
}

ControlHost::~ControlHost() { shutdown(); }

void ControlHost::begin_at_measured() noexcept
{
  plant_->read(measurement_);
  for (const auto & arm : arms_) arm->begin(measurement_);
  fault_ = false;
}

void ControlHost::tick(int64_t now_ns) noexcept
{
  now_ns_.store(now_ns, std::memory_order_relaxed);
  if (plant_->apply_reset()) begin_at_measured();
  plant_->read(measurement_);
  ++seq_;
  for (const auto & arm : arms_)
  {
    if (!arm->read(measurement_, dt_s_)) arm->set_fault();
  }
  if (authority_.take(now_ns)) release();
  const Rejection gate = fault_ ? Rejection::kStopped : authority_.target_gate();
  for (const auto & arm : arms_)
  {
    if (!fault_) arm->take_segment(authority_, now_ns);
    arm->update_reference(now_ns, dt_s_, gate);
    arm->run_law(dt_s_);
    arm->estimate(dt_s_);
    arm->write(tau_);
  }
  for (const auto & arm : arms_)
  {
    if (!arm->fault() || fault_) continue;
    fault_ = true;
    release();
  }
  plant_->write(tau_, arms_.front()->gripper_width_m());
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

ArmChannel * ControlHost::find_arm(const std::string & ee_frame) const noexcept
{
  for (const auto & arm : arms_)
  {
    if (ee_frame.empty() || arm->ee_frame() == ee_frame) return arm.get();
  }
  return nullptr;
}

std::vector<std::string> ControlHost::ee_frames() const
{
  std::vector<std::string> names;
  for (const auto & arm : arms_) names.push_back(arm->ee_frame());
  return names;
}

void ControlHost::set_law(const LawConfig & config, const std::string & ee_frame)
{
  ArmChannel * arm = find_arm(ee_frame);
  if (arm == nullptr)
  {
    std::string known;
    for (const std::string & name : ee_frames()) known += (known.empty() ? "" : ", ") + name;
    throw Error("no end effector '" + ee_frame + "'; there are " + known);
  }
  arm->set_law(config, running_.load());
}

Rejection ControlHost::count_target(Rejection reason) noexcept
{
  if (reason == Rejection::kNone)
  {
    counters_.targets_accepted.fetch_add(1, std::memory_order_relaxed);
  }
  else
  {
    counters_.targets_rejected[static_cast<size_t>(reason)].fetch_add(1, std::memory_order_relaxed);
  }
  return reason;
}

Rejection ControlHost::set_target_pose(
  const PoseTarget & target, const std::string & frame, const std::string & ee_frame) noexcept
{
  ArmChannel * arm = find_arm(ee_frame);
  if (arm == nullptr) return count_target(Rejection::kUnknownArm);
  return count_target(arm->targets().set_pose(target, frame, now_ns_.load()));
}

Rejection ControlHost::set_target_joint(
  const std::vector<std::string> & joint_names, const std::vector<double> & q,
  const std::vector<double> & dq, int64_t stamp_ns, const std::string & ee_frame) noexcept
{
  ArmChannel * arm = find_arm(ee_frame);
  if (arm == nullptr) return count_target(Rejection::kUnknownArm);
  return count_target(arm->targets().set_joint(joint_names, q, dq, stamp_ns, now_ns_.load()));
}

Rejection ControlHost::set_target_wrench(
  const WrenchTarget & target, const std::string & frame, const std::string & ee_frame) noexcept
{
  ArmChannel * arm = find_arm(ee_frame);
  if (arm == nullptr) return count_target(Rejection::kUnknownArm);
  return count_target(arm->targets().set_wrench(target, frame, now_ns_.load()));
}

void ControlHost::release() noexcept
{
  for (const auto & arm : arms_) arm->release();
}

Mode ControlHost::mode_of(const ArmChannel & arm) const noexcept
{
  if (arm.fault()) return Mode::kFault;
  if (authority_.is_stopped()) return Mode::kStopped;
  return arm.mode();
}

void ControlHost::publish_state(int64_t now_ns) noexcept
{
  StateRecord & s = state_;
  s.seq = seq_;
  s.tick_ns = now_ns;
  s.epoch = authority_.epoch();
  s.scene_epoch = plant_->scene_epoch();
  s.gripper_width_m = measurement_.gripper_width_m;
  s.stop_count = authority_.stop_count();
  s.stop_requested_ns = authority_.stop_requested_ns();
  s.stop_received_ns = authority_.stop_received_ns();
  std::strncpy(s.source, authority_.source(), kNameLength);
  LatencyStamp stamp{};
  stamp.magic = kStampMagic;
  stamp.version = kStampVersion;
  stamp.seq = seq_;
  stamp.state_ns = now_ns;
  uint64_t expired_brakes = 0;
  uint64_t rows_after_expiry = 0;
  for (const auto & arm : arms_)
  {
    s.mode = static_cast<uint32_t>(mode_of(*arm));
    arm->publish(s, stamp);
    expired_brakes += arm->expired_brakes();
    rows_after_expiry += arm->rows_after_expiry();
  }
  plant_->publish(seq_, now_ns);
  counters_.stops.store(authority_.stops(), std::memory_order_relaxed);
  counters_.expired_brakes.store(expired_brakes, std::memory_order_relaxed);
  counters_.rows_after_expiry.store(rows_after_expiry, std::memory_order_relaxed);
}

StateRecord ControlHost::last_state(const std::string & ee_frame) const noexcept
{
  const ArmChannel * arm = find_arm(ee_frame);
  return arm == nullptr ? StateRecord{} : arm->last_state();
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
