// SPDX-License-Identifier: Apache-2.0
// Everything that enters the law, from bytes: configuration, reference, measurement, segments and
// the content of a ring. Aborts where a promise is broken.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "byte_source.hpp"
#include "chain_robot.hpp"
#include "vla_ros_core/error.hpp"
#include "vla_ros_core/law.hpp"
#include "vla_ros_core/reference.hpp"
#include "vla_ros_core/shm_ring.hpp"

namespace
{

using namespace vla_ros_core;
using vla_ros_core::test::ByteSource;

void require(bool holds, const char * what)
{
  if (holds) return;
  std::fprintf(stderr, "broken promise: %s\n", what);
  std::abort();
}

JointVector joints(ByteSource & in, int n, double low, double high)
{
  JointVector v = JointVector::Zero(n);
  for (int i = 0; i < n; ++i) v[i] = in.number(low, high);
  return v;
}

template <typename Vector>
void fill(ByteSource & in, Vector & v, double low, double high)
{
  for (Eigen::Index i = 0; i < v.size(); ++i) v.data()[i] = in.number(low, high);
}

void fill_gains(ByteSource & in, LawGains & g, int n)
{
  Matrix6 factor;
  fill(in, factor, -5.0, 5.0);
  if (in.byte() % 2 == 0) g.stiffness = factor * factor.transpose();
  if (in.byte() % 4 == 0) g.stiffness.setZero();
  g.damping_ratio = in.number(0.0, 2.0);
  fill(in, g.extra_damping, 0.0, 50.0);
  fill(in, g.error_clip, 1e-4, 1.0);
  g.nullspace_stiffness = joints(in, n, 0.0, 50.0);
  g.nullspace_torque_limit_nm = in.number(0.0, 20.0);
  g.manipulability_gain = in.number(0.0, 5.0);
  g.limit_avoidance_gain = in.number(0.0, 5.0);
  g.joint_stiffness = joints(in, n, 0.0, 200.0);
  g.joint_damping_ratio = in.number(0.0, 2.0);
  g.joint_extra_damping = joints(in, n, 0.0, 5.0);
}

LawConfig make_config(ByteSource & in, int n)
{
  LawConfig c = LawConfig::for_joints(n);
  c.kind = static_cast<LawKind>(in.byte() % 4);
  c.damping_design = static_cast<DampingDesign>(in.byte() % 2);
  c.projector = static_cast<Projector>(in.byte() % 3);
  c.axes = static_cast<TaskAxes>(in.byte() % 2);
  const uint8_t flags = in.byte();
  c.compensate_gravity = (flags & 1) != 0;
  c.compensate_coriolis = (flags & 2) != 0;
  c.torque_limit = JointVector::Constant(n, 40.0);
  c.torque_rate_limit = JointVector::Constant(n, 1000.0);
  if ((flags & 4) != 0) fill_gains(in, c.gains, n);
  if ((flags & 8) != 0) c.velocity_limit = joints(in, n, 0.1, 3.0);
  if ((flags & 16) != 0)
  {
    c.friction.a = joints(in, n, 0.0, 2.0);
    c.friction.b = joints(in, n, 0.0, 20.0);
    c.friction.c = joints(in, n, -0.1, 0.1);
  }
  if ((flags & 32) != 0)
  {
    c.gain_ramp_s = in.number(0.0, 1.0);
    c.operational_regularisation = in.number(0.0, 0.1);
    c.kinematic_regularisation = in.number(1e-6, 0.1);
    c.filters.position_s = in.number(0.0, 0.01);
    c.filters.target_s = in.number(0.0, 0.1);
    c.filters.torque_s = in.number(0.0, 0.01);
    c.limit_range_rad = in.number(1e-3, 1.0);
  }
  if ((flags & 64) != 0) c.posture = joints(in, in.byte() % (n + 2), -2.0, 2.0);
  return c;
}

void fill_reference(ByteSource & in, LawReference & r, int n)
{
  fill(in, r.pose.position, -1.0, 1.0);
  fill(in, r.pose.rotation.coeffs(), -1.0, 1.0);
  if (in.byte() % 4 != 0) r.pose.rotation.normalize();
  fill(in, r.twist, -1.0, 1.0);
  fill(in, r.acceleration, -5.0, 5.0);
  fill(in, r.wrench, -20.0, 20.0);
  const int size = in.byte() % 3 == 0 ? in.byte() % 17 : n;
  r.q = joints(in, size, -3.0, 3.0);
  r.dq = joints(in, in.byte() % 2 == 0 ? 0 : n, -1.0, 1.0);
}

void check_torque(const Law & law, const JointVector & before, double dt_s, LawStatus status)
{
  require(law.tau().allFinite(), "torque is finite");
  require(status <= LawStatus::kBadReference, "status is known");
  for (Eigen::Index i = 0; i < before.size(); ++i)
  {
    const double step = law.config().torque_rate_limit[i] * dt_s;
    require(std::abs(law.tau()[i] - before[i]) <= step + 1e-9, "torque within its rate limit");
    require(std::abs(law.tau()[i]) <= law.config().torque_limit[i] + 1e-9, "torque within limit");
  }
}

void run_law(ByteSource & in)
{
  static const int kSizes[] = {6, 7, 14};
  static const std::shared_ptr<RobotModel> kModels[] = {
    test::make_chain(6), test::make_chain(7), test::make_chain(14)};
  const int which = in.byte() % 3;
  const int n = kSizes[which];
  std::unique_ptr<Law> law;
  try
  {
    law = std::make_unique<Law>(make_config(in, n), kModels[which]);
  }
  catch (const Error &)
  {
    return;
  }
  LawReference reference;
  const double dt_s = in.byte() % 2 == 0 ? 0.001 : 0.002;
  for (int tick = 0; tick < 8; ++tick)
  {
    if (in.byte() % 8 == 0)
    {
      const LawConfig next = make_config(in, n);
      try
      {
        next.validate(n);
        law->apply(next);
      }
      catch (const Error &)
      {
      }
    }
    const JointVector before = law->tau();
    const int size = in.byte() % 16 == 0 ? in.byte() % 17 : n;
    const bool is_good = law->update(joints(in, size, -3.0, 3.0), joints(in, n, -2.0, 2.0), dt_s);
    fill_reference(in, reference, n);
    LawStatus status = LawStatus::kNotFinite;
    if (is_good)
      status = in.byte() % 8 == 0 ? law->compute_damping(dt_s) : law->compute(reference, dt_s);
    check_torque(*law, before, dt_s, status);
  }
}

void fill_segment(ByteSource & in, SegmentRecord & s, int64_t now_ns)
{
  s.n_rows = in.byte() % 8 == 0 ? in.raw<uint32_t>() : in.byte() % 6;
  s.valid_until_ns = in.byte() % 8 == 0 ? in.raw<int64_t>() : now_ns + 200'000'000;
  int64_t at_ns = now_ns;
  for (int i = 0; i < 6; ++i)
  {
    SegmentRow & row = s.rows[i];
    at_ns += 1'000'000 * in.byte();
    row.target_ns = in.byte() % 32 == 0 ? in.raw<int64_t>() : at_ns;
    for (double & v : row.position) v = in.number(-0.05, 0.05);
    row.quat_xyzw[3] = in.byte() % 16 == 0 ? in.number(-1.0, 1.0) : 1.0;
    for (double & v : row.twist) v = in.number(-0.5, 0.5);
    row.gripper_width_m = in.number(0.0, 0.08);
  }
}

LatencyStamp make_stamp(ByteSource & in, int64_t now_ns)
{
  LatencyStamp stamp{};
  const auto instant = [&]
  { return in.byte() % 8 == 0 ? in.raw<int64_t>() : now_ns + 1'000'000 * (in.byte() - 64); };
  stamp.soft_expire_ns = in.byte() % 4 == 0 ? 0 : instant();
  stamp.hard_expire_ns = in.byte() % 4 == 0 ? 0 : instant();
  stamp.clock_err_ns = in.byte() % 8 == 0 ? in.raw<int64_t>() : 0;
  stamp.capture_oldest_ns = in.byte() % 4;
  stamp.instruction_id = in.byte() % 3;
  return stamp;
}

void run_segments(ByteSource & in)
{
  ReferenceConfig config;
  ReferenceGenerator reference(config);
  Pose pose;
  int64_t now_ns = 1'000'000'000'000;
  reference.reset(pose, 0.08);
  static SegmentRecord segment;
  for (int arrival = 0; arrival < 4 && !in.is_empty(); ++arrival)
  {
    segment = SegmentRecord{};
    fill_segment(in, segment, now_ns);
    const LatencyStamp stamp = make_stamp(in, now_ns);
    if (in.byte() % 4 == 0) reference.set_instruction(in.byte() % 3, now_ns);
    end_with_stamp(segment, stamp);
    const SegmentLimits limits{3.0 * config.max_speed_m_s, 3.0 * config.max_speed_rad_s};
    const Rejection reason = check_segment(segment, now_ns, limits);
    if (reason == Rejection::kNone && reference.is_of_instruction(stamp))
    {
      reference.accept(segment, static_cast<uint64_t>(arrival), stamp, now_ns);
    }
    for (int tick = 0; tick < 20; ++tick)
    {
      now_ns += 1'000'000;
      const Eigen::Vector3d before = reference.pose().position;
      reference.update(now_ns, 0.001, pose);
      require(reference.pose().position.allFinite(), "reference position is finite");
      require(reference.pose().rotation.coeffs().allFinite(), "reference rotation is finite");
      require(reference.twist().allFinite(), "reference twist is finite");
      require(reference.speed_scale() >= 0.0 && reference.speed_scale() <= 1.0, "scale 0 to 1");
      require(reference.rows_after_expiry() == 0, "no row is executed after its segment's end");
      if (reference.mode() == Mode::kTrack)
      {
        const double moved = (reference.pose().position - before).norm();
        require(moved <= config.max_speed_m_s * 0.001 + 1e-9, "reference within its speed");
      }
    }
  }
}

/// A reader of a ring whose bytes another process has overwritten.
void run_ring(ByteSource & in)
{
  const std::string name = "vla_ros.fuzz" + std::to_string(getpid());
  std::vector<uint8_t> buffer(256);
  {
    ShmRing ring = ShmRing::create(name, 4, 128, 7);
    for (uint64_t i = 0; i < in.byte() % 8u; ++i) ring.write(LatencyStamp{}, buffer.data(), 128);
    const int fd = shm_open(("/" + name).c_str(), O_RDWR, 0600);
    require(fd >= 0, "the ring's file is there");
    for (int i = 0; i < 8 && !in.is_empty(); ++i)
    {
      // Half of them into the header, the rest into the slots.
      const auto where = in.byte() % 2 == 0 ? in.byte() % 64 : 4096 + in.raw<uint16_t>() % 1792;
      const uint64_t value = in.byte() % 2 == 0 ? in.raw<uint64_t>() : in.byte();
      require(pwrite(fd, &value, 8, where) == 8, "the ring's file can be written");
    }
    close(fd);
    LatencyStamp stamp{};
    uint64_t bytes = 0;
    for (int i = 0; i < 2; ++i)
    {
      ring.read_latest(&stamp, buffer.data(), buffer.size(), &bytes);
      ring.read_seq(in.raw<uint64_t>(), &stamp, buffer.data(), buffer.size(), &bytes);
      ring.entry_bytes(in.byte());
      ring.write(LatencyStamp{}, buffer.data(), in.byte());
    }
    try
    {
      ShmRing::open(name, 7).read_latest(&stamp, buffer.data(), buffer.size(), &bytes);
    }
    catch (const Error &)
    {
    }
  }
  ShmRing::unlink(name);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size)
{
  ByteSource in(data, size);
  switch (in.byte() % 8)
  {
    case 0:
      run_ring(in);
      break;
    case 1:
    case 2:
      run_segments(in);
      break;
    default:
      run_law(in);
  }
  return 0;
}
