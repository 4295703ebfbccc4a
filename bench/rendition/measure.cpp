// SPDX-License-Identifier: Apache-2.0
#include "measure.hpp"

#include <algorithm>
#include <exception>
#include <thread>

#include "vla_ros_core/realtime.hpp"

namespace vla_ros_bench
{

namespace
{

using vla_ros_core::JointVector;
using vla_ros_core::Law;
using vla_ros_core::LawReference;
using vla_ros_core::monotonic_ns;

constexpr double kPeriodS = 1e-3;

/// Both laws, their inputs copied from the table outside of what is timed.
class Pair
{
public:
  Pair(Law & law, Rendition * rendition, const States & states)
  : law_(law), rendition_(rendition), states_(states)
  {
    const Eigen::Index n = states.q.rows();
    input_.wrench = Eigen::VectorXd::Zero(6);
    input_.posture = law.config().posture;
    input_.posture_rate = Eigen::VectorXd::Zero(n);
    q_ = dq_ = JointVector::Zero(n);
  }

  int64_t ours(Eigen::Index i) noexcept
  {
    q_ = states_.q.col(i);
    dq_ = states_.dq.col(i);
    reference_.pose.position = states_.position.col(i);
    reference_.pose.rotation.coeffs() = states_.quat.col(i);
    const int64_t start = monotonic_ns();
    law_.update(q_, dq_, kPeriodS);
    law_.compute(reference_, kPeriodS);
    return monotonic_ns() - start;
  }

  int64_t theirs(Eigen::Index i)
  {
    input_.q = states_.q.col(i);
    input_.dq = states_.dq.col(i);
    input_.position = states_.position.col(i);
    input_.rotation.coeffs() = states_.quat.col(i);
    const int64_t start = monotonic_ns();
    tau_ = &rendition_->step(input_);
    return monotonic_ns() - start;
  }

  const Eigen::VectorXd & tau_of_theirs() const { return *tau_; }

private:
  Law & law_;
  Rendition * rendition_;
  const States & states_;
  JointVector q_, dq_;
  LawReference reference_;
  RenditionInput input_;
  const Eigen::VectorXd * tau_ = nullptr;
};

/// The thread that is measured; everything it writes was allocated before.
void loop_of_turns(Law & law, const States & states, int seconds, double rate_hz, LoopTimes & times)
{
  const auto period_ns = static_cast<int64_t>(1e9 / rate_hz);
  const auto ticks = static_cast<int>(rate_hz);
  Pair pair(law, nullptr, states);
  Eigen::Index next_state = 0;
  for (int turn = 0; turn < 2 * seconds; ++turn)
  {
    const bool works = turn % 2 == 0;
    int64_t deadline = monotonic_ns() + 2 * period_ns;
    vla_ros_core::sleep_until_ns(deadline);
    int64_t before = monotonic_ns();
    for (int i = 0; i < ticks; ++i)
    {
      deadline += period_ns;
      vla_ros_core::sleep_until_ns(deadline);
      const int64_t now = monotonic_ns();
      (works ? times.law_late_ns : times.idle_late_ns).push_back(now - deadline);
      (works ? times.law_period_ns : times.idle_period_ns).push_back(now - before);
      before = now;
      if (works)
      {
        times.law_compute_ns.push_back(pair.ours(next_state));
        next_state = (next_state + 1) % states.q.cols();
      }
      // Late by more than a period: the missed ticks are skipped, as the control host does.
      while (deadline + period_ns < monotonic_ns()) deadline += period_ns;
    }
  }
}

}  // namespace

Durations measure(Law & law, Rendition * rendition, const States & states, int block)
{
  const Eigen::Index count = states.q.cols();
  Durations result;
  result.ours_ns.reserve(static_cast<size_t>(count));
  if (rendition != nullptr) result.theirs_ns.reserve(static_cast<size_t>(count));
  Pair pair(law, rendition, states);
  Eigen::MatrixXd taus(states.q.rows(), block);
  for (Eigen::Index i = 0; i < std::min<Eigen::Index>(block, count); ++i)
  {
    pair.ours(i);
    if (rendition != nullptr) pair.theirs(i);
  }
  for (Eigen::Index first = 0; first < count; first += block)
  {
    const Eigen::Index last = std::min<Eigen::Index>(first + block, count);
    for (Eigen::Index i = first; i < last; ++i)
    {
      result.ours_ns.push_back(pair.ours(i));
      taus.col(i - first) = law.tau();
    }
    if (rendition == nullptr) continue;
    for (Eigen::Index i = first; i < last; ++i)
    {
      result.theirs_ns.push_back(pair.theirs(i));
      const double apart = (taus.col(i - first) - pair.tau_of_theirs()).cwiseAbs().maxCoeff();
      result.largest_difference_nm = std::max(result.largest_difference_nm, apart);
    }
  }
  return result;
}

LoopTimes run_loop(
  Law & law, const States & states, int seconds, double rate_hz, const std::string & priority)
{
  LoopTimes times;
  const auto room = static_cast<size_t>(seconds) * static_cast<size_t>(rate_hz);
  for (auto * v :
       {&times.law_late_ns, &times.law_period_ns, &times.law_compute_ns, &times.idle_late_ns,
        &times.idle_period_ns})
  {
    v->reserve(room);
  }
  std::exception_ptr error;
  std::thread thread(
    [&]
    {
      try
      {
        times.scheduling = vla_ros_core::raise_thread_priority(priority);
        loop_of_turns(law, states, seconds, rate_hz, times);
      }
      catch (...)
      {
        error = std::current_exception();
      }
    });
  thread.join();
  if (error) std::rethrow_exception(error);
  return times;
}

}  // namespace vla_ros_bench
