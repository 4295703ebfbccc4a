// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "vla_ros_core/admittance.hpp"

namespace vla_ros_core
{

/// Left Jacobian of SO(3): angular velocity of exp(phi) is left_jacobian(phi) phi'.
Eigen::Matrix3d left_jacobian(const Eigen::Vector3d & phi) noexcept;

/// The exact solution of M x'' + D x' + K x = w over one step in which w is constant.
///
/// With M = L L^T, z = L^T x and omega = sqrt(|L^-1 K L^-T|) the state (omega z, z', L^-1 w) obeys
/// s' = A s, A = [0 omega 0; -K~/omega -D~ 1; 0 0 0]; step() multiplies it by exp(A dt). In these
/// coordinates A dt grows by no more than exp(omega dt / 2), which keeps repeated squaring exact.
/// noexcept, no allocation.
class VirtualBodyStep
{
public:
  /// Compute exp(A dt) unless it is known.
  void prepare(const VirtualBody & body, double dt_s) noexcept;
  void forget() noexcept { dt_s_ = 0.0; }
  void step(Vector6 & offset, Vector6 & rate, const Vector6 & wrench) const noexcept;

private:
  double dt_s_ = 0.0;
  // x and x' at the end of the step from x, x' and w at its begin.
  Matrix6 xx_, xv_, xw_, vx_, vv_, vw_;
};

}  // namespace vla_ros_core
