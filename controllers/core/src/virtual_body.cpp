// SPDX-License-Identifier: Apache-2.0
#include "virtual_body.hpp"

#include <Eigen/Cholesky>
#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>

namespace vla_ros_core
{

namespace
{

using Matrix18 = Eigen::Matrix<double, 18, 18>;

/// exp(a) by Taylor's series of a / 2^s and s squarings; twelve terms reach 1e-14 for a norm of
/// one half.
Matrix18 exponential(Matrix18 a) noexcept
{
  constexpr int kTerms = 12;
  const double norm = a.cwiseAbs().colwise().sum().maxCoeff();
  const int squarings = norm > 0.5 ? static_cast<int>(std::ceil(std::log2(2.0 * norm))) : 0;
  a *= std::ldexp(1.0, -squarings);
  Matrix18 result = Matrix18::Identity();
  Matrix18 product;
  for (int k = kTerms; k > 0; --k)
  {
    product.noalias() = a.lazyProduct(result);
    result = product / k;
    result.diagonal().array() += 1.0;
  }
  for (int i = 0; i < squarings; ++i)
  {
    product.noalias() = result.lazyProduct(result);
    result = product;
  }
  return result;
}

/// Square root of a symmetric matrix without negative eigenvalues, up to rounding.
Matrix6 symmetric_root(const Matrix6 & matrix) noexcept
{
  const Eigen::SelfAdjointEigenSolver<Matrix6> eigen(matrix);
  return eigen.eigenvectors() * eigen.eigenvalues().cwiseMax(0.0).cwiseSqrt().asDiagonal() *
         eigen.eigenvectors().transpose();
}

}  // namespace

Eigen::Matrix3d left_jacobian(const Eigen::Vector3d & phi) noexcept
{
  const double angle = phi.norm();
  Eigen::Matrix3d cross;
  cross << 0.0, -phi.z(), phi.y(), phi.z(), 0.0, -phi.x(), -phi.y(), phi.x(), 0.0;
  // Below this the next term of the series is lost in rounding.
  constexpr double kSmallAngleRad = 1e-4;
  const double square = angle * angle;
  const double a = angle < kSmallAngleRad ? 0.5 - square / 24.0 : (1.0 - std::cos(angle)) / square;
  const double b = angle < kSmallAngleRad ? 1.0 / 6.0 - square / 120.0
                                          : (angle - std::sin(angle)) / (square * angle);
  return Eigen::Matrix3d::Identity() + a * cross + b * cross * cross;
}

Matrix6 VirtualBody::damping_in_force() const noexcept
{
  if (!damping_ratio) return damping;
  const Matrix6 root = symmetric_root(mass);
  const Matrix6 inverse = Eigen::LLT<Matrix6>(root).solve(Matrix6::Identity());
  const Matrix6 d =
    2.0 * *damping_ratio * root * symmetric_root(inverse * stiffness * inverse) * root;
  return 0.5 * (d + d.transpose());
}

void VirtualBodyStep::prepare(const VirtualBody & body, double dt_s) noexcept
{
  if (dt_s == dt_s_) return;
  dt_s_ = dt_s;
  const Eigen::LLT<Matrix6> factor(body.mass);
  const Matrix6 lower = factor.matrixL();
  const Matrix6 inverse = factor.matrixL().solve(Matrix6::Identity());
  const Matrix6 k = inverse * body.stiffness * inverse.transpose();
  const Matrix6 d = inverse * body.damping_in_force() * inverse.transpose();
  const double omega = std::max(1.0, std::sqrt(k.norm()));
  Matrix18 a = Matrix18::Zero();
  a.block<6, 6>(0, 6).diagonal().setConstant(omega);
  a.block<6, 6>(6, 0) = -k / omega;
  a.block<6, 6>(6, 6) = -d;
  a.block<6, 6>(6, 12).setIdentity();
  const Matrix18 e = exponential(dt_s * a);
  const Matrix6 up = lower.transpose();
  const Matrix6 down = inverse.transpose();  // x = L^-T z
  xx_ = down * e.block<6, 6>(0, 0) * up;
  xv_ = down * e.block<6, 6>(0, 6) * up / omega;
  xw_ = down * e.block<6, 6>(0, 12) * inverse / omega;
  vx_ = down * e.block<6, 6>(6, 0) * up * omega;
  vv_ = down * e.block<6, 6>(6, 6) * up;
  vw_ = down * e.block<6, 6>(6, 12) * inverse;
}

void VirtualBodyStep::step(Vector6 & offset, Vector6 & rate, const Vector6 & wrench) const noexcept
{
  const Vector6 x = offset;
  const Vector6 v = rate;
  offset = xx_ * x + xv_ * v + xw_ * wrench;
  rate = vx_ * x + vv_ * v + vw_ * wrench;
}

}  // namespace vla_ros_core
