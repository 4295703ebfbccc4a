// SPDX-License-Identifier: Apache-2.0
// Timing inside C++ loops: what is measured is the law, not the call from Python.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "rendition.hpp"
#include "vla_ros_core/law.hpp"

namespace vla_ros_bench
{

/// States and targets of consecutive ticks, one column each.
struct States
{
  Eigen::MatrixXd q;         ///< (n, count)
  Eigen::MatrixXd dq;        ///< (n, count)
  Eigen::MatrixXd position;  ///< (3, count)
  Eigen::MatrixXd quat;      ///< (4, count) xyzw
};

/// Durations of the ticks of each [ns], and how far the torques were apart [N·m].
struct Durations
{
  std::vector<int64_t> ours_ns;
  std::vector<int64_t> theirs_ns;  ///< empty without a rendition
  double largest_difference_nm = 0.0;
};

/// Run both over the same states in turns of `block` ticks, so that both see the machine in the
/// same condition. Before that, each runs the first block once, after which filters agree.
Durations measure(vla_ros_core::Law & law, Rendition * rendition, const States & states, int block);

/// A loop at a fixed rate: turns of one second with the law and with nothing to do.
struct LoopTimes
{
  std::vector<int64_t> law_late_ns;     ///< wake-up after its deadline
  std::vector<int64_t> law_period_ns;   ///< from wake-up to wake-up
  std::vector<int64_t> law_compute_ns;  ///< update() and compute()
  std::vector<int64_t> idle_late_ns;
  std::vector<int64_t> idle_period_ns;
  std::string scheduling;  ///< what the thread was given
};

/// `priority` as of raise_thread_priority(). Runs in a thread of its own and returns when it ends.
LoopTimes run_loop(
  vla_ros_core::Law & law, const States & states, int seconds, double rate_hz,
  const std::string & priority);

}  // namespace vla_ros_bench
