// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "vla_ros_core/robot_model.hpp"

namespace vla_ros_core
{

/// Which error the law acts on.
enum class LawKind : uint32_t
{
  kImpedance = 0,         ///< tau = J^T (K e + D edot + Lambda a + F)
  kOperationalSpace = 1,  ///< tau = J^T (Lambda (K e + D edot + a) + F): K, D per unit of mass
  kJoint = 2,             ///< tau = K_q (q* - q) + D_q (dq* - dq); all gains 0: hand guiding
};

enum class DampingDesign : uint32_t
{
  kInertiaAware = 0,  ///< double diagonalisation: the ratio holds in every direction and pose
  kPlain = 1,         ///< 2 zeta K^(1/2), which is right for one unit of mass
};

/// What keeps the posture torque away from the task.
enum class Projector : uint32_t
{
  kDynamic = 0,    ///< N = I - J^T Lambda J M^-1: no acceleration of the end effector
  kKinematic = 1,  ///< N = I - J^+ J: no static force at the end effector
  kNone = 2,
};

/// Axes of stiffness, extra damping and error clip; the origin is the end effector in both.
enum class TaskAxes : uint32_t
{
  kBase = 0,
  kEndEffector = 1,
};

/// Gains that may change while the arm moves; the law ramps towards them.
struct LawGains
{
  Matrix6 stiffness;                          ///< symmetric, not negative [N/m, N, N·m/rad]
  double damping_ratio = 1.0;                 ///< [-]
  Vector6 extra_damping = Vector6::Zero();    ///< added, per axis [N·s/m, N·m·s/rad]
  Vector6 error_clip;                         ///< beyond it the spring does not pull harder
  JointVector nullspace_stiffness;            ///< [N·m/rad]
  double nullspace_damping_ratio = 1.0;       ///< of 2 sqrt(k)
  double nullspace_torque_limit_nm = 1000.0;  ///< scales the whole posture torque, direction kept
  double manipulability_gain = 0.0;           ///< [N·m] along the gradient of sqrt(det(J J^T))
  double limit_avoidance_gain = 0.0;          ///< [N·m] towards the middle of the joint ranges
  JointVector joint_stiffness;                ///< kJoint [N·m/rad]
  double joint_damping_ratio = 1.0;           ///< of 2 sqrt(k M_ii), plain design: 2 sqrt(k)
  JointVector joint_extra_damping;            ///< kJoint, added [N·m·s/rad]
  double joint_error_clip_rad = 0.5;          ///< kJoint

  /// Sensible gains for `n_joints` joints: 800 N/m, 40 N·m/rad, clips 50 mm and 0.4 rad.
  static LawGains for_joints(int n_joints);
};

/// Joint friction tau = a / (1 + exp(-b (dq + c))) - a / (1 + exp(-b c)), one value per joint.
struct FrictionModel
{
  JointVector a;  ///< [N·m]; empty: no friction compensation
  JointVector b;  ///< [s/rad]
  JointVector c;  ///< [rad/s]
};

/// First-order low-pass filters, as time constants [s]; 0 leaves the signal alone. The effect does
/// not depend on the control rate.
struct LawFilters
{
  double position_s = 0.0;  ///< measured q
  double velocity_s = 0.0;  ///< measured dq
  double target_s = 0.0;    ///< reference pose
  double posture_s = 0.0;   ///< posture and joint reference
  double wrench_s = 0.0;    ///< feed-forward wrench
  double torque_s = 0.0;    ///< output
};

/// Everything about the law. All of it may be changed while it runs.
struct LawConfig
{
  LawKind kind = LawKind::kImpedance;
  DampingDesign damping_design = DampingDesign::kInertiaAware;
  Projector projector = Projector::kDynamic;
  TaskAxes axes = TaskAxes::kBase;
  LawGains gains;
  double gain_ramp_s = 0.1;         ///< time constant of changed gains; 0: at once
  double stiffening_power_w = 5.0;  ///< most power that rising stiffness may put into the spring
  JointVector posture;              ///< where the nullspace pulls until told otherwise [rad]
  double kinematic_regularisation = 1e-6;   ///< epsilon of the kinematic projector, at least 1e-6
  double operational_regularisation = 0.0;  ///< epsilon of Lambda in kOperationalSpace; see law.hpp
  bool compensate_gravity = true;           ///< false where the robot adds gravity itself
  bool compensate_coriolis = true;
  FrictionModel friction;
  double friction_scale = 1.0;
  double limit_range_rad = 0.1;          ///< repulsion begins this far from a joint limit
  double limit_torque_nm = 5.0;          ///< repulsion at the limit; 0: none
  JointVector velocity_limit;            ///< [rad/s]; empty: none
  double velocity_limit_damping = 20.0;  ///< [N·m·s/rad] on what exceeds the velocity limit
  JointVector torque_limit;              ///< [N·m]
  JointVector torque_rate_limit;         ///< [N·m/s]
  double fault_damping = 5.0;            ///< [N·m·s/rad] joint damping after a fault
  LawFilters filters;

  /// Defaults for `n_joints` joints; torque limits must still be filled in.
  static LawConfig for_joints(int n_joints);

  /// Throws Error naming the field, its value and its allowed range.
  void validate(int n_joints) const;
};

}  // namespace vla_ros_core
