// SPDX-License-Identifier: Apache-2.0
#include <nanobind/eigen/dense.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <string>
#include <vector>

#include "bind.hpp"
#include "vla_ros_core/reference.hpp"
#include "vla_ros_core/target.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace vla_ros_core::python
{

namespace
{

using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

Pose to_pose(const Eigen::Vector3d & position, const Eigen::Vector4d & quat_xyzw)
{
  Pose pose;
  pose.position = position;
  pose.rotation.coeffs() = quat_xyzw;
  return pose;
}

/// Rows as columns of arrays; their number is checked.
SegmentRecord to_segment(
  const std::vector<int64_t> & target_ns, const Rows & positions, const Rows & quats_xyzw,
  const Rows & twists, int64_t valid_until_ns)
{
  const auto n = static_cast<Eigen::Index>(target_ns.size());
  if (
    n > kMaxRows || positions.rows() != n || quats_xyzw.rows() != n || twists.rows() != n ||
    positions.cols() != 3 || quats_xyzw.cols() != 4 || twists.cols() != 6)
  {
    throw Error("a segment needs at most 64 rows of 3, 4 and 6 values");
  }
  SegmentRecord segment{};
  segment.n_rows = static_cast<uint32_t>(n);
  segment.valid_until_ns = valid_until_ns;
  for (Eigen::Index i = 0; i < n; ++i)
  {
    SegmentRow & row = segment.rows[i];
    row.target_ns = target_ns[static_cast<size_t>(i)];
    Eigen::Map<Eigen::Vector3d>{row.position} = positions.row(i);
    Eigen::Map<Eigen::Vector4d>{row.quat_xyzw} = quats_xyzw.row(i);
    Eigen::Map<Vector6>{row.twist} = twists.row(i);
  }
  return segment;
}

std::string reason_of(Rejection reason)
{
  return reason == Rejection::kNone ? "" : to_string(reason);
}

void bind_target_config(nb::module_ & m)
{
  nb::class_<TargetConfig>(m, "TargetConfig", "Limits of plain targets; see target.hpp.")
    .def(nb::init<>())
    .def_rw("max_speed_m_s", &TargetConfig::max_speed_m_s)
    .def_rw("max_speed_rad_s", &TargetConfig::max_speed_rad_s)
    .def_rw("max_acceleration_m_s2", &TargetConfig::max_acceleration_m_s2)
    .def_rw("max_acceleration_rad_s2", &TargetConfig::max_acceleration_rad_s2)
    .def_rw("brake_m_s2", &TargetConfig::brake_m_s2)
    .def_rw("brake_rad_s2", &TargetConfig::brake_rad_s2)
    .def_rw("max_joint_speed_rad_s", &TargetConfig::max_joint_speed_rad_s)
    .def_rw("max_joint_acceleration_rad_s2", &TargetConfig::max_joint_acceleration_rad_s2)
    .def_rw("max_distance_m", &TargetConfig::max_distance_m)
    .def_rw("max_angle_rad", &TargetConfig::max_angle_rad)
    .def_rw("max_joint_distance_rad", &TargetConfig::max_joint_distance_rad)
    .def_rw("max_force_n", &TargetConfig::max_force_n)
    .def_rw("max_torque_nm", &TargetConfig::max_torque_nm)
    .def_rw("max_age_s", &TargetConfig::max_age_s)
    .def_rw("max_ahead_s", &TargetConfig::max_ahead_s)
    .def_rw("max_extrapolation_s", &TargetConfig::max_extrapolation_s)
    .def_rw("timeout_s", &TargetConfig::timeout_s)
    .def_rw("wrench_decay_s", &TargetConfig::wrench_decay_s)
    .def_rw("hold_time_constant_s", &TargetConfig::hold_time_constant_s)
    .def_rw("acceleration_feed_forward", &TargetConfig::acceleration_feed_forward);
}

void bind_reference_generator(nb::module_ & m)
{
  nb::class_<ReferenceConfig>(m, "ReferenceConfig")
    .def(nb::init<>())
    .def_rw("max_speed_m_s", &ReferenceConfig::max_speed_m_s)
    .def_rw("max_speed_rad_s", &ReferenceConfig::max_speed_rad_s)
    .def_rw("brake_m_s2", &ReferenceConfig::brake_m_s2)
    .def_rw("brake_rad_s2", &ReferenceConfig::brake_rad_s2)
    .def_rw("seam_time_constant_s", &ReferenceConfig::seam_time_constant_s)
    .def_rw("acceleration_feed_forward", &ReferenceConfig::acceleration_feed_forward);

  nb::class_<ReferenceGenerator>(m, "ReferenceGenerator", "Rows of segments to one motion.")
    .def(nb::init<const ReferenceConfig &>(), "config"_a)
    .def(
      "reset",
      [](
        ReferenceGenerator & r, const Eigen::Vector3d & position, const Eigen::Vector4d & quat_xyzw)
      { r.reset(to_pose(position, quat_xyzw), 0.0); },
      "position"_a, "quat_xyzw"_a)
    .def(
      "accept",
      [](
        ReferenceGenerator & r, const std::vector<int64_t> & target_ns, const Rows & positions,
        const Rows & quats_xyzw, const Rows & twists, int64_t valid_until_ns, int64_t now_ns,
        int64_t soft_expire_ns, int64_t capture_ns, uint32_t instruction_id)
      {
        const SegmentRecord segment =
          to_segment(target_ns, positions, quats_xyzw, twists, valid_until_ns);
        const Rejection reason = check_segment(segment, now_ns, SegmentLimits());
        LatencyStamp stamp{};
        stamp.soft_expire_ns = soft_expire_ns;
        stamp.capture_oldest_ns = capture_ns;
        stamp.instruction_id = instruction_id;
        if (reason == Rejection::kNone) r.accept(segment, 1, stamp, now_ns);
        return reason_of(reason);
      },
      "target_ns"_a, "positions"_a, "quats_xyzw"_a, "twists"_a, "valid_until_ns"_a, "now_ns"_a,
      "soft_expire_ns"_a = 0, "capture_ns"_a = 0, "instruction_id"_a = 0,
      "Take over rows after a check; returns why they are refused, or ''.")
    .def(
      "set_instruction", &ReferenceGenerator::set_instruction, "instruction_id"_a, "now_ns"_a,
      "The instruction in force, 0 for any; rows of another one end within the braking time.")
    .def(
      "update",
      [](
        ReferenceGenerator & r, int64_t now_ns, double dt_s, const Eigen::Vector3d & position,
        const Eigen::Vector4d & quat_xyzw)
      { r.update(now_ns, dt_s, to_pose(position, quat_xyzw)); },
      "now_ns"_a, "dt_s"_a, "position"_a, "quat_xyzw"_a, "Pose: where the arm is.")
    .def_prop_ro("mode", [](const ReferenceGenerator & r) { return static_cast<int>(r.mode()); })
    .def_prop_ro("position", [](const ReferenceGenerator & r) { return r.pose().position; })
    .def_prop_ro(
      "quat_xyzw",
      [](const ReferenceGenerator & r) { return Eigen::Vector4d(r.pose().rotation.coeffs()); })
    .def_prop_ro("twist", [](const ReferenceGenerator & r) { return r.twist(); })
    .def_prop_ro("acceleration", [](const ReferenceGenerator & r) { return r.acceleration(); })
    .def_prop_ro("speed_scale", &ReferenceGenerator::speed_scale)
    .def_prop_ro("expired_brakes", &ReferenceGenerator::expired_brakes)
    .def_prop_ro("rows_after_expiry", &ReferenceGenerator::rows_after_expiry);
}

std::string set_pose(
  TargetStream & s, const Eigen::Vector3d & position, const Eigen::Vector4d & quat_xyzw,
  const std::vector<double> & twist, const std::string & frame, int64_t stamp_ns, int64_t now_ns)
{
  if (!twist.empty() && twist.size() != 6) throw Error("a twist needs 6 values");
  PoseTarget target;
  target.stamp_ns = stamp_ns;
  target.has_twist = twist.empty() ? 0 : 1;
  std::copy(position.begin(), position.end(), target.position);
  std::copy(quat_xyzw.begin(), quat_xyzw.end(), target.quat_xyzw);
  std::copy(twist.begin(), twist.end(), target.twist);
  return reason_of(s.set_pose(target, frame, now_ns));
}

std::vector<double> to_list(const JointVector & v) { return {v.data(), v.data() + v.size()}; }

void bind_target_stream(nb::module_ & m)
{
  nb::class_<TargetStream>(m, "TargetStream", "Single targets to one motion; see target.hpp.")
    .def(
      "__init__",
      [](
        TargetStream * self, const TargetConfig & config, const RobotModel & model,
        const std::string & base_frame, const std::string & ee_frame,
        const std::vector<std::string> & joint_names)
      {
        new (self)
          TargetStream(config, TargetNames::of_arm(model, base_frame, ee_frame, joint_names));
      },
      "config"_a, "model"_a, "base_frame"_a, "ee_frame"_a, "joint_names"_a)
    .def(
      "set_pose", &set_pose, "position"_a, "quat_xyzw"_a, "twist"_a = std::vector<double>{},
      "frame"_a = "", "stamp_ns"_a = 0, "now_ns"_a, "Returns why it is refused, or ''.")
    .def(
      "set_joint",
      [](
        TargetStream & s, const std::vector<std::string> & joint_names,
        const std::vector<double> & q, const std::vector<double> & dq, int64_t stamp_ns,
        int64_t now_ns) { return reason_of(s.set_joint(joint_names, q, dq, stamp_ns, now_ns)); },
      "joint_names"_a, "q"_a, "dq"_a = std::vector<double>{}, "stamp_ns"_a = 0, "now_ns"_a)
    .def(
      "set_wrench",
      [](
        TargetStream & s, const Vector6 & wrench, const std::string & frame, int64_t stamp_ns,
        int64_t now_ns)
      {
        WrenchTarget target;
        target.stamp_ns = stamp_ns;
        Eigen::Map<Vector6>{target.wrench} = wrench;
        return reason_of(s.set_wrench(target, frame, now_ns));
      },
      "wrench"_a, "frame"_a = "", "stamp_ns"_a = 0, "now_ns"_a)
    .def(
      "open", [](TargetStream & s) { s.set_gate(Rejection::kNone); }, "Let targets in.")
    .def(
      "begin",
      [](
        TargetStream & s, const Eigen::Vector3d & position, const Eigen::Vector4d & quat_xyzw,
        const std::vector<double> & q)
      {
        s.set_present(to_pose(position, quat_xyzw), to_joint_vector(q));
        s.begin(to_pose(position, quat_xyzw), Vector6::Zero(), to_joint_vector(q));
      },
      "position"_a, "quat_xyzw"_a, "q"_a, "Begin at rest.")
    .def(
      "update",
      [](
        TargetStream & s, int64_t now_ns, double dt_s, const Eigen::Vector3d & position,
        const Eigen::Vector4d & quat_xyzw)
      { s.update(now_ns, dt_s, to_pose(position, quat_xyzw)); },
      "now_ns"_a, "dt_s"_a, "position"_a, "quat_xyzw"_a, "Pose: where the arm is.")
    .def(
      "wrench", [](const TargetStream & s, const Eigen::Vector4d & quat_xyzw)
      { return s.wrench(Eigen::Quaterniond(quat_xyzw)); }, "quat_xyzw"_a,
      "(6,) along base axes, given the orientation of the end effector")
    .def_prop_ro("mode", [](const TargetStream & s) { return static_cast<int>(s.mode()); })
    .def_prop_ro("position", [](const TargetStream & s) { return s.pose().position; })
    .def_prop_ro(
      "quat_xyzw",
      [](const TargetStream & s) { return Eigen::Vector4d(s.pose().rotation.coeffs()); })
    .def_prop_ro("twist", [](const TargetStream & s) { return s.twist(); })
    .def_prop_ro("acceleration", [](const TargetStream & s) { return s.acceleration(); })
    .def_prop_ro("q", [](const TargetStream & s) { return to_list(s.q()); })
    .def_prop_ro("dq", [](const TargetStream & s) { return to_list(s.dq()); })
    .def_prop_ro("period_s", &TargetStream::period_s);
}

}  // namespace

void bind_reference(nb::module_ & m)
{
  bind_reference_generator(m);
  bind_target_config(m);
  bind_target_stream(m);
}

}  // namespace vla_ros_core::python
