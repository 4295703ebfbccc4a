// SPDX-License-Identifier: Apache-2.0
// Runs the law in every mode, the reference, the segment checks and the rings, for the sanitizers.
// What the numbers should be is tested elsewhere; here they must be finite and within limits.
#include <unistd.h>

#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <random>
#include <thread>
#include <vector>

#include "chain_robot.hpp"
#include "vla_ros_core/histogram.hpp"
#include "vla_ros_core/law.hpp"
#include "vla_ros_core/reference.hpp"
#include "vla_ros_core/shm_ring.hpp"

namespace
{

using namespace vla_ros_core;
using Random = std::mt19937_64;

void require(bool holds, const char * what)
{
  if (holds) return;
  std::fprintf(stderr, "failed: %s\n", what);
  std::exit(1);
}

double normal(Random & random) { return std::normal_distribution<double>()(random); }

JointVector joints(Random & random, int n, double scale)
{
  JointVector v = JointVector::Zero(n);
  for (int i = 0; i < n; ++i) v[i] = scale * normal(random);
  return v;
}

/// Now and then a value that has no business there.
void spoil(Random & random, double & value)
{
  if (random() % 50 == 0) value = std::numeric_limits<double>::quiet_NaN();
  if (random() % 50 == 0) value = 1e300;
}

void run_mode(Random & random, const LawConfig & config, const std::shared_ptr<RobotModel> & model)
{
  const int n = model->n_joints();
  Law law(config, model);
  LawReference r;
  for (int tick = 0; tick < 40; ++tick)
  {
    JointVector q = joints(random, n, 1.0);
    if (tick % 8 == 0) q.setZero();  // stretched out: singular
    spoil(random, q[0]);
    for (int i = 0; i < 3; ++i) r.pose.position[i] = normal(random);
    spoil(random, r.pose.position[2]);
    r.pose.rotation = exp_rotation(Eigen::Vector3d(normal(random), normal(random), 0.1));
    for (int i = 0; i < 6; ++i) r.twist[i] = r.acceleration[i] = r.wrench[i] = normal(random);
    spoil(random, r.acceleration[1]);
    r.q = joints(random, tick % 3 == 0 ? 0 : n, 1.0);
    r.dq = joints(random, tick % 5 == 0 ? 0 : n, 1.0);
    const JointVector before = law.tau();
    if (law.update(q, joints(random, n, 1.0), 1e-3)) law.compute(r, 1e-3);
    if (tick % 10 == 9) law.compute_damping(1e-3);
    if (tick == 20)
    {
      LawConfig softer = config;
      softer.gains.stiffness *= 0.3;
      law.apply(softer);
    }
    const double bound = (tick % 10 == 9 ? 2.0 : 1.0) * 1.0 + 1e-9;
    require((law.tau() - before).cwiseAbs().maxCoeff() <= bound, "torque rate");
    require(law.tau().allFinite() && law.tau().cwiseAbs().maxCoeff() <= 50.0, "torque");
    require(law.damping().rows() == 6 && law.task_inertia().rows() == 6, "diagnostics");
  }
}

void run_law(Random & random)
{
  for (int n : {3, 6, 7, 14, 16})
  {
    const auto model = test::make_chain(n);
    for (int mode = 0; mode < 36; ++mode)
    {
      LawConfig c = LawConfig::for_joints(n);
      c.kind = static_cast<LawKind>(mode % 3);
      c.projector = static_cast<Projector>(mode / 3 % 3);
      c.damping_design = static_cast<DampingDesign>(mode / 9 % 2);
      c.axes = static_cast<TaskAxes>(mode / 18);
      c.torque_limit = JointVector::Constant(n, 50.0);
      c.torque_rate_limit = JointVector::Constant(n, 1000.0);
      c.velocity_limit = JointVector::Constant(n, 0.5);
      c.friction = {
        joints(random, n, 0.0).array() + 0.5, joints(random, n, 0.0).array() + 5.0,
        JointVector::Zero(n)};
      c.gains.manipulability_gain = mode % 2;
      c.gains.limit_avoidance_gain = mode % 2;
      c.filters = {0.001, 0.002, 0.01, 0.1, 0.1, 0.001};
      c.compensate_gravity = mode % 4 != 0;
      c.compensate_coriolis = mode % 4 < 2;
      run_mode(random, c, model);
    }
  }
}

SegmentRecord make_segment(Random & random, int64_t now_ns)
{
  SegmentRecord s{};
  s.n_rows = static_cast<uint32_t>(1 + random() % 64);
  s.valid_until_ns = now_ns + static_cast<int64_t>(random() % 300'000'000);
  for (uint32_t i = 0; i < s.n_rows; ++i)
  {
    SegmentRow & row = s.rows[i];
    row.target_ns = now_ns + i * 10'000'000;
    for (double & v : row.position) v = 0.005 * i * 0.3;
    row.quat_xyzw[3] = 1.0;
    for (double & v : row.twist) v = 0.1 * normal(random);
  }
  if (random() % 5 == 0) spoil(random, s.rows[random() % s.n_rows].position[1]);
  if (random() % 20 == 0) s.n_rows = static_cast<uint32_t>(random());
  return s;
}

void run_reference(Random & random)
{
  ReferenceGenerator reference{ReferenceConfig{}};
  int64_t now_ns = 1'000'000'000;
  reference.reset(Pose{}, 0.08);
  int taken = 0;
  for (int i = 0; i < 400; ++i)
  {
    const SegmentRecord segment = make_segment(random, now_ns);
    if (check_segment(segment, now_ns, SegmentLimits{}) == Rejection::kNone)
    {
      reference.accept(segment, static_cast<uint64_t>(i), LatencyStamp{}, now_ns);
      ++taken;
    }
    if (i % 50 == 0) reference.release();
    for (int tick = 0; tick < 50; ++tick)
    {
      reference.update(now_ns += 1'000'000, 1e-3, Pose{});
      require(reference.pose().position.allFinite(), "reference is finite");
    }
  }
  require(taken > 100, "good segments are taken");
}

void run_ring()
{
  const std::string name = "vla_ros.exercise" + std::to_string(getpid());
  ShmRing writer = ShmRing::create(name, 4, 256, 1);
  const ShmRing reader = ShmRing::open(name, 1);
  std::atomic<bool> stop{false};
  std::thread thread(
    [&]
    {
      std::vector<uint8_t> payload(256);
      for (uint8_t i = 0; !stop; ++i)
      {
        payload.assign(256, i);
        writer.write(LatencyStamp{}, payload.data(), payload.size());
      }
    });
  std::vector<uint8_t> copy(256);
  LatencyStamp stamp{};
  uint64_t bytes = 0;
  for (int i = 0; i < 20000; ++i)
  {
    if (reader.read_latest(&stamp, copy.data(), copy.size(), &bytes) == 0) continue;
    require(bytes == 256 && copy.front() == copy.back(), "an entry is whole");
    reader.read_seq(reader.head() - 2, &stamp, copy.data(), 16, &bytes);
  }
  stop = true;
  thread.join();
  require(writer.write(stamp, copy.data(), 257) == 0, "too long a payload is refused");
  writer.close();
  ShmRing::unlink(name);
}

}  // namespace

int main()
{
  Random random(1);
  run_law(random);
  run_reference(random);
  run_ring();
  DurationHistogram histogram;
  for (int64_t ns : {-5L, 0L, 1'000'000L, std::numeric_limits<int64_t>::max()}) histogram.add(ns);
  require(histogram.count() == 4, "histogram");
  std::puts("the core ran in every mode");
  return 0;
}
