// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>
#include <memory>
#include <optional>

#include "vla_ros_core/robot_model.hpp"

namespace vla_ros_core
{

/// What compute() did; of several the last in this list.
enum class AdmittanceStatus : uint32_t
{
  kOk = 0,
  kVirtualLimited,  ///< speed or offset of the virtual mass is at its limit
  kJointLimited,    ///< the motion is scaled down as a whole to keep a joint within its limits
  kStaleWrench,     ///< wrench older than its timeout: it decays to zero
  kBadWrench,       ///< wrench or its age not finite, age negative: as kStaleWrench
  kBadReference,    ///< not finite or quaternion not unit: the last good pose and posture, at rest
  kNotFinite,  ///< no finite result: the joints brake; step outside (0, 0.1] s: nothing changed
};

/// The virtual body: M a + D v + K x = wrench, in base axes at the end effector.
/// Each matrix (6, 6), symmetric, linear first.
struct VirtualBody
{
  Matrix6 mass = (Vector6() << 1, 1, 1, 0.1, 0.1, 0.1).finished().asDiagonal();  ///< [kg, kg·m^2]
  Matrix6 stiffness =
    (Vector6() << 200, 200, 200, 10, 10, 10).finished().asDiagonal();  ///< [N/m, N·m/rad], may be 0
  Matrix6 damping =
    (Vector6() << 50, 50, 50, 5, 5, 5).finished().asDiagonal();  ///< [N·s/m, N·m·s/rad]
  /// Set: D = 2 zeta M^1/2 (M^-1/2 K M^-1/2)^1/2 M^1/2 takes the place of `damping` [-].
  std::optional<double> damping_ratio;

  Matrix6 damping_in_force() const noexcept;
};

/// What happens to the measured wrench before the virtual body feels it.
struct WrenchInput
{
  double force_dead_band_n = 0.0;    ///< taken off the length of the force
  double torque_dead_band_nm = 0.0;  ///< taken off the length of the torque
  double max_force_n = 200.0;        ///< a longer force is cut to this length
  double max_torque_nm = 30.0;
  double time_constant_s = 0.0;  ///< of a first-order low-pass; 0: none
  double timeout_s = 0.1;        ///< a wrench older than this counts no more
  double decay_s = 0.1;          ///< time constant with which it then fades, at least the low-pass
};

/// Bounds of the virtual motion, relative to the reference.
struct VirtualLimits
{
  double speed_m_s = 0.25;
  double speed_rad_s = 1.0;
  double offset_m = 0.2;
  double offset_rad = 0.6;
};

/// Differential inverse kinematics and the limits of the joints.
struct JointMotion
{
  double tracking_gain_1_s = 10.0;  ///< pulls the commanded pose onto the virtual one
  double catch_up_speed_m_s = 0.2;  ///< most speed that pull may ask for
  double catch_up_speed_rad_s = 0.8;
  double smallest_singular_value = 0.05;  ///< of J [m/rad], below it a direction is damped
  double length_m = 0.3;                  ///< makes rotation comparable with translation in J
  JointVector posture;                    ///< where the nullspace pulls (7 joints or more) [rad]
  double posture_gain_1_s = 1.0;
  double posture_speed_rad_s = 0.3;   ///< most speed the pull may ask for, before projection
  JointVector velocity_limit;         ///< [rad/s]
  JointVector acceleration_limit;     ///< [rad/s^2]; half of it is kept for joint position limits
  double position_margin_rad = 0.02;  ///< distance kept from the limits of the URDF
};

struct AdmittanceConfig
{
  VirtualBody body;
  WrenchInput wrench;
  VirtualLimits limits;
  JointMotion joints;

  /// Defaults for `n_joints` joints: 1 rad/s, 10 rad/s^2; the posture must still be filled in.
  static AdmittanceConfig for_joints(int n_joints);

  /// Throws Error naming the field, its value and its allowed range.
  void validate(int n_joints) const;
};

/// What the law is given in one tick. Base frame, linear first, at the end effector.
struct AdmittanceInput
{
  Pose pose;                         ///< reference
  Vector6 twist = Vector6::Zero();   ///< of the reference [m/s, rad/s]
  Vector6 wrench = Vector6::Zero();  ///< exerted by the world on the arm, without its own weight
  double wrench_age_s = std::numeric_limits<double>::infinity();  ///< of the wrench now [s]
  JointVector posture;                                            ///< empty: that of the config
};

/// Compliance for arms that take joint positions or velocities but no torque.
///
/// A virtual body is displaced from the reference by xi = (p, phi): position p_ref + p,
/// orientation exp(phi) R_ref, and moves as
///
///   M xi'' + D xi' + K xi = (f, J_l(phi)^T m)         J_l: left Jacobian of SO(3)
///
/// J_l^T makes the power of m on phi' that on the angular velocity J_l phi': the body never gives
/// out more energy than was put in. Each tick is solved exactly for a wrench held over the tick
/// (matrix exponential), so the motion is stable and the same at every rate for every allowed M,
/// D, K. Speed and offset are then limited in length, direction kept.
///
/// The joints follow with  u = twist of the virtual pose + k clip(virtual pose - FK(q)),
///   dq* = J^+ u + (I - J^+ J) k_n (q_posture - q),
///   J^+ = J^T V diag(1 / max(l, l_0)) V^T,  |J^+ u| <= |u| / sqrt(l_0),
///   over the eigenvalues l and eigenvectors V of J J^T (rotation in units of length_m),
///   l_0 = smallest_singular_value^2.
/// dq* is scaled as a whole into the velocity and position limits, the change of dq as a whole
/// into the acceleration limits; position limits count by the speed from which half the allowed
/// deceleration still stops in time. Of seven joints or more, those at a position limit that dq*
/// would push further are left out as long as six remain; otherwise the arm stops there. q is
/// integrated from dq: measured joints are not used.
///
/// Sources: [Hogan1985] for admittance, [MaciejewskiKlein1988] for filtering singular directions.
/// Real-time: compute(), reset() and apply() are noexcept and do not allocate; the tick after
/// apply(), or with another dt, also computes a matrix exponential. Thread-safety: one thread.
class AdmittanceLaw
{
public:
  /// The law updates `model` at the commanded joints; nothing else may use it. Throws Error naming
  /// the field and its range.
  AdmittanceLaw(const AdmittanceConfig & config, std::shared_ptr<RobotModel> model);
  ~AdmittanceLaw();
  AdmittanceLaw(const AdmittanceLaw &) = delete;
  AdmittanceLaw & operator=(const AdmittanceLaw &) = delete;

  /// Start at rest at the joint positions `q` [rad], without offset, wrench or reference: the next
  /// command differs from them by no more than acceleration_limit dt^2. False, and nothing
  /// changed, if they are not finite or not one per joint.
  bool reset(const JointVector & q) noexcept;

  /// Use another configuration, which validate() has accepted, from the next tick on; the command
  /// stays continuous.
  void apply(const AdmittanceConfig & config) noexcept;

  /// Command for one tick.
  AdmittanceStatus compute(const AdmittanceInput & input, double dt_s) noexcept;

  const JointVector & q() const noexcept;   ///< commanded position at the end of the tick [rad]
  const JointVector & dq() const noexcept;  ///< commanded velocity over the tick [rad/s]
  Pose virtual_pose() const noexcept;  ///< in base, at the end of the tick for a fixed reference
  const Vector6 & offset() const noexcept;       ///< xi [m, rad]
  const Vector6 & offset_rate() const noexcept;  ///< xi' [m/s, rad/s]
  const Vector6 & wrench() const noexcept;       ///< felt by the virtual body [N, N·m]

private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace vla_ros_core
