// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "vla_ros_core/robot_model.hpp"
#include "vla_ros_core/shm_ring.hpp"

namespace vla_ros_core
{

/// What a robot reports at one tick.
struct Measurement
{
  JointVector q;
  JointVector dq;
  double gripper_width_m = 0.0;
};

/// The robot as the control host sees it: a simulation or a driver.
/// Every method called from the loop is noexcept and allocation-free.
class Plant
{
public:
  virtual ~Plant() = default;
  virtual int n_joints() const noexcept = 0;
  virtual void read(Measurement & measurement) noexcept = 0;
  virtual void write(const JointVector & tau, double gripper_width_m) noexcept = 0;
  /// Publish whatever observers of this plant need (simulation: the state to render).
  virtual void publish(uint64_t seq, int64_t tick_ns) noexcept = 0;
  /// Let one control period pass; a real robot does that by itself.
  virtual void advance() noexcept = 0;
  /// Put the plant into another state, if it can; true when a reset took place.
  virtual bool apply_reset() noexcept { return false; }
  /// Number of resets so far.
  virtual uint32_t scene_epoch() const noexcept { return 0; }
};

}  // namespace vla_ros_core
