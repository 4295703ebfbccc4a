// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "vla_ros_core/plant.hpp"

namespace vla_ros_core
{

struct MujocoPlantConfig
{
  std::string library_path;  ///< libmujoco.so.*, loaded at run time: the core does not link MuJoCo
  std::string model_path;    ///< compiled model (.mjb)
  std::vector<std::string> joint_names;
  std::vector<std::string> actuator_names;  ///< torque motors, one per joint
  std::string gripper_actuator;
  std::vector<std::string> gripper_joint_names;  ///< their positions add up to the width
  double gripper_ctrl_per_m = 1.0;               ///< control units per metre of width
  double gripper_max_width_m = 0.08;
  std::string snapshot_ring;  ///< empty: no snapshot
};

/// MuJoCo stepped through its C API from the control thread; Python is never in the loop.
class MujocoPlant : public Plant
{
public:
  /// Throws Error if the library, the model or a name in it cannot be found.
  explicit MujocoPlant(const MujocoPlantConfig & config);
  ~MujocoPlant() override;

  int n_joints() const noexcept override;
  void read(Measurement & measurement) noexcept override;
  void write(const JointVector & tau, double gripper_width_m) noexcept override;
  void publish(uint64_t seq, int64_t tick_ns) noexcept override;
  void advance() noexcept override;
  bool apply_reset() noexcept override;
  uint32_t scene_epoch() const noexcept override { return scene_epoch_; }

  /// Ask for a state; taken over at the next tick. Thread-safe. Throws Error on a wrong length.
  void request_reset(const std::vector<double> & qpos);

  double timestep_s() const noexcept;
  /// Push on a body with a force [N] at its centre of mass until changed. Thread-safe enough for
  /// tests and demonstrations: six doubles, written between ticks in virtual time.
  void set_external_force(const std::string & body, const std::vector<double> & force);
  std::vector<double> qpos() const;
  std::vector<double> qvel() const;
  std::vector<double> bias_force() const;  ///< gravity + Coriolis of the arm joints, after a tick

private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
  std::mutex reset_mutex_;
  std::vector<double> reset_qpos_;
  bool reset_requested_ = false;
  uint32_t scene_epoch_ = 0;
};

}  // namespace vla_ros_core
