// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>

#include "vla_ros_core/pose.hpp"

namespace vla_ros_core
{

/// Square root of U K U^T, for an upper triangular U and a symmetric, not negative K (6x6) that
/// change little from tick to tick.
///
/// Cyclic Jacobi rotations [GolubVanLoan, 8.5], begun with the vectors of the last call, bring the
/// matrix close to a diagonal one, A = diag(d^2) + E. The rest needs no rotations: the root is
/// diag(d) + X where X_ij (d_i + d_j) = (E - X X)_ij, iterated from X = 0. At the rates of a
/// control loop no rotation at all is left in most ticks. Accurate to rounding for any matrix.
class SymmetricRoot6
{
public:
  void update(const Matrix6 & upper, const Matrix6 & k) noexcept
  {
    Matrix6 w;
    w.noalias() = upper.triangularView<Eigen::Upper>().transpose() * vectors_;
    Matrix6 kw;
    kw.noalias() = k * w;
    Matrix6 a;
    a.noalias() = w.transpose() * kw;
    if (!a.allFinite())
    {
      // Let the law find it in its result, and keep the vectors good for the next tick.
      d_.setConstant(std::numeric_limits<double>::quiet_NaN());
      x_.setZero();
      return;
    }
    for (int sweep = 0;; ++sweep)
    {
      if (finish(a, sweep >= kMaxSweeps) || sweep >= kMaxSweeps) break;
      for (const auto & round : kRounds) rotate(a, round);
      if (++sweeps_ >= kOrthogonaliseEvery) orthogonalise();
    }
  }

  /// Root times a vector.
  Vector6 operator*(const Vector6 & v) const noexcept
  {
    const Vector6 y = vectors_.transpose() * v;
    const Vector6 z = d_.cwiseProduct(y) + x_ * y;
    return vectors_ * z;
  }

  Matrix6 matrix() const noexcept
  {
    Matrix6 inner = x_;
    inner.diagonal() += d_;
    return vectors_ * inner * vectors_.transpose();
  }

private:
  static constexpr int kMaxSweeps = 12;
  static constexpr int kOrthogonaliseEvery = 1000;
  // Share of X in the smallest d up to which iterating is faster than rotating.
  static constexpr double kSmall = 0.04;
  // Largest change in an iteration after which the next one would change nothing.
  static constexpr double kSettled = 1e-13;
  // Three disjoint planes at a time: their square roots and divisions overlap.
  static constexpr int kRounds[5][6] = {
    {0, 5, 1, 4, 2, 3},
    {0, 4, 3, 5, 1, 2},
    {0, 3, 2, 4, 1, 5},
    {0, 2, 1, 3, 4, 5},
    {0, 1, 2, 5, 3, 4}};

  /// Compute d and X; false if A is too far from diagonal for that, unless `force`.
  bool finish(const Matrix6 & a, bool force) noexcept
  {
    d_ = a.diagonal().cwiseMax(0.0).cwiseSqrt();
    const double smallest = d_.minCoeff();
    const double largest = d_.maxCoeff();
    double off = 0.0;
    for (int j = 1; j < 6; ++j)
    {
      for (int i = 0; i < j; ++i) off = std::max(off, std::abs(a(i, j)));
    }
    x_.setZero();
    if (off <= 1e-15 * largest * largest) return true;
    // |X| <= off / (2 smallest)
    if (off > 2.0 * kSmall * smallest * smallest) return force;
    Matrix6 weight;
    for (int j = 0; j < 6; ++j)
    {
      for (int i = 0; i < 6; ++i) weight(i, j) = 1.0 / (d_[i] + d_[j]);
    }
    Matrix6 e = a;
    e.diagonal().setZero();
    x_ = e.cwiseProduct(weight);
    for (int i = 0; i < 12; ++i)
    {
      Matrix6 square;
      square.noalias() = x_ * x_;
      const Matrix6 next = (e - square).cwiseProduct(weight);
      const double change = (next - x_).cwiseAbs().maxCoeff();
      x_ = next;
      if (!(change > kSettled * smallest)) break;
    }
    return true;
  }

  /// Make three elements of A zero by rotations in the planes (p, q) of each pair.
  void rotate(Matrix6 & a, const int (&pairs)[6]) noexcept
  {
    double c[3];
    double s[3];
    for (int i = 0; i < 3; ++i)
    {
      const int p = pairs[2 * i];
      const int q = pairs[2 * i + 1];
      const double apq = a(p, q);
      const double half = 0.5 * (a(q, q) - a(p, p));
      const double h = std::abs(half) + std::sqrt(half * half + apq * apq);
      const double scale = h * h + apq * apq;
      const double inverse = scale > 0.0 ? 1.0 / std::sqrt(scale) : 0.0;
      c[i] = scale > 0.0 ? h * inverse : 1.0;
      s[i] = half < 0.0 ? -apq * inverse : apq * inverse;
    }
    for (int i = 0; i < 3; ++i)
    {
      turn_columns(a, pairs[2 * i], pairs[2 * i + 1], c[i], s[i]);
      turn_columns(vectors_, pairs[2 * i], pairs[2 * i + 1], c[i], s[i]);
    }
    for (int i = 0; i < 3; ++i)
    {
      const int p = pairs[2 * i];
      const int q = pairs[2 * i + 1];
      for (int j = 0; j < 6; ++j)
      {
        const double ap = a(p, j);
        const double aq = a(q, j);
        a(p, j) = c[i] * ap - s[i] * aq;
        a(q, j) = s[i] * ap + c[i] * aq;
      }
    }
  }

  static void turn_columns(Matrix6 & m, int p, int q, double c, double s) noexcept
  {
    const Vector6 mp = m.col(p);
    const Vector6 mq = m.col(q);
    m.col(p) = c * mp - s * mq;
    m.col(q) = s * mp + c * mq;
  }

  /// Rounding makes the vectors drift from orthogonal by 1e-16 a sweep: take it out now and then.
  void orthogonalise() noexcept
  {
    sweeps_ = 0;
    for (int j = 0; j < 6; ++j)
    {
      for (int i = 0; i < j; ++i)
      {
        vectors_.col(j) -= vectors_.col(i).dot(vectors_.col(j)) * vectors_.col(i);
      }
      vectors_.col(j).normalize();
    }
  }

  Matrix6 vectors_ = Matrix6::Identity();
  Vector6 d_ = Vector6::Zero();
  Matrix6 x_ = Matrix6::Zero();
  int sweeps_ = 0;
};

}  // namespace vla_ros_core
