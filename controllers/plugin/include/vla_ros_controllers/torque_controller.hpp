// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "vla_ros_controllers/arm_controller.hpp"
#include "vla_ros_controllers/triple_buffer.hpp"
#include "vla_ros_core/law.hpp"
#include "vla_ros_core/wrench_estimator.hpp"

namespace vla_ros_controllers
{

/// Controllers that command effort by vla_ros_core::Law. Derived classes say with which law.
class TorqueController : public ArmController
{
protected:
  explicit TorqueController(const TargetTopics & topics) : ArmController(topics) {}

  /// Law of the present parameters; where they give no posture it is `posture`.
  virtual vla_ros_core::LawConfig law_config(const vla_ros_core::JointVector & posture) = 0;
  /// Estimator of the present parameters.
  virtual vla_ros_core::WrenchEstimatorConfig estimator_config() = 0;

  /// Check changed parameters and hand them to the loop. Throws vla_ros_core::Error.
  void apply_parameters();

  void build(const std::string & urdf) override;
  void tear_down() override;
  std::string command_interface() const override { return "effort"; }
  void begin(const vla_ros_core::JointVector & held) override;
  void step(int64_t now_ns, double dt_s, bool is_measured, Snapshot & out) noexcept override;
  bool end(vla_ros_core::JointVector & command) noexcept override;

private:
  void run_law(double dt_s, bool is_measured) noexcept;
  void estimate_wrench(double dt_s, bool is_measured, Snapshot & out) noexcept;

  std::shared_ptr<vla_ros_core::RobotModel> model_;
  std::shared_ptr<vla_ros_core::RobotModel> estimator_model_;  // the law's lacks unused terms
  std::unique_ptr<vla_ros_core::Law> law_;
  std::unique_ptr<vla_ros_core::ExternalWrenchEstimator> estimator_;
  std::mutex posture_mutex_;  // parameters change in other threads; never taken by update()
  vla_ros_core::JointVector posture_;
  TripleBuffer<vla_ros_core::LawConfig> next_config_;
  int consecutive_failures_ = 0;
  bool is_fault_ = false;
};

}  // namespace vla_ros_controllers
