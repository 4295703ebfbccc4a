// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

#include "vla_ros_core/pose.hpp"

namespace vla_ros_core
{

/// Eigenvalues and eigenvectors of a symmetric 6x6 matrix that changes little from tick to tick:
/// cyclic Jacobi rotations that start from the eigenvectors of the last call, so that two sweeps
/// are enough where a solver from scratch needs six. Accurate to rounding for any matrix.
class SymmetricEigen6
{
public:
  void reset() noexcept { vectors_.setIdentity(); }

  void update(const Matrix6 & matrix) noexcept
  {
    if (++calls_ >= kOrthogonaliseEvery) orthogonalise();
    Matrix6 half;
    half.noalias() = matrix * vectors_;
    Matrix6 a;
    a.noalias() = vectors_.transpose() * half;
    for (int sweep = 0; sweep < kMaxSweeps; ++sweep)
    {
      if (is_diagonal(a)) break;
      for (int p = 0; p < 5; ++p)
      {
        for (int q = p + 1; q < 6; ++q) rotate(a, p, q);
      }
    }
    values_ = a.diagonal();
  }

  const Vector6 & values() const noexcept { return values_; }
  const Matrix6 & vectors() const noexcept { return vectors_; }

private:
  static constexpr int kMaxSweeps = 12;
  static constexpr int kOrthogonaliseEvery = 1000;
  static constexpr double kRelativeTolerance = 1e-15;

  static bool is_diagonal(const Matrix6 & a) noexcept
  {
    double largest = 0.0;
    double off = 0.0;
    for (int j = 0; j < 6; ++j)
    {
      largest = std::max(largest, std::abs(a(j, j)));
      for (int i = 0; i < j; ++i) off = std::max(off, std::abs(a(i, j)));
    }
    // Written so that NaN ends the loop: the law finds it in its result.
    return !(off > kRelativeTolerance * largest);
  }

  /// Make a(p, q) zero by a rotation in that plane (Golub and Van Loan, 8.5).
  void rotate(Matrix6 & a, int p, int q) noexcept
  {
    const double apq = 0.5 * (a(p, q) + a(q, p));
    if (apq == 0.0) return;
    const double theta = (a(q, q) - a(p, p)) / (2.0 * apq);
    const double t =
      (theta >= 0.0 ? 1.0 : -1.0) / (std::abs(theta) + std::sqrt(theta * theta + 1.0));
    const double c = 1.0 / std::sqrt(t * t + 1.0);
    const double s = t * c;
    const Vector6 ap = a.col(p);
    a.col(p) = c * ap - s * a.col(q);
    a.col(q) = s * ap + c * a.col(q);
    const Eigen::Matrix<double, 1, 6> row = a.row(p);
    a.row(p) = c * row - s * a.row(q);
    a.row(q) = s * row + c * a.row(q);
    a(p, q) = a(q, p) = 0.0;
    const Vector6 vp = vectors_.col(p);
    vectors_.col(p) = c * vp - s * vectors_.col(q);
    vectors_.col(q) = s * vp + c * vectors_.col(q);
  }

  /// Rounding makes the vectors drift from orthogonal by 1e-16 a call: take it out now and then.
  void orthogonalise() noexcept
  {
    calls_ = 0;
    for (int j = 0; j < 6; ++j)
    {
      for (int i = 0; i < j; ++i)
      {
        vectors_.col(j) -= vectors_.col(i).dot(vectors_.col(j)) * vectors_.col(i);
      }
      vectors_.col(j).normalize();
    }
  }

  Vector6 values_ = Vector6::Zero();
  Matrix6 vectors_ = Matrix6::Identity();
  int calls_ = 0;
};

}  // namespace vla_ros_core
