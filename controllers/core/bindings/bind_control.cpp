// SPDX-License-Identifier: Apache-2.0
#include <nanobind/eigen/dense.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "bind.hpp"
#include "vla_ros_core/control_host.hpp"
#ifdef VLA_ROS_CORE_MUJOCO
#include "vla_ros_core/mujoco_plant.hpp"
#endif

namespace nb = nanobind;
using namespace nb::literals;

namespace vla_ros_core::python
{

namespace
{

template <typename Counts>
nb::dict by_reason(const Counts & counts, Rejection first, Rejection last)
{
  nb::dict d;
  for (auto i = static_cast<size_t>(first); i <= static_cast<size_t>(last); ++i)
  {
    d[to_string(static_cast<Rejection>(i))] = counts[i].load();
  }
  return d;
}

nb::dict targets_by_reason(const HostCounters & c)
{
  nb::dict d = by_reason(c.targets_rejected, Rejection::kWrongFrame, Rejection::kUnknownArm);
  d.update(by_reason(c.targets_rejected, Rejection::kNotFinite, Rejection::kQuaternion));
  return d;
}

nb::dict counters_to_dict(const ControlHost & host)
{
  const HostCounters & c = host.counters();
  nb::dict d;
  d["ticks"] = c.ticks.load();
  d["skipped"] = c.skipped.load();
  d["accepted"] = c.accepted.load();
  nb::dict rejected = by_reason(c.rejected, Rejection::kRowCount, Rejection::kInstruction);
  rejected.update(by_reason(c.rejected, Rejection::kTooFar, Rejection::kTooFar));
  d["rejected"] = rejected;
  d["targets_accepted"] = c.targets_accepted.load();
  d["targets_rejected"] = targets_by_reason(c);
  d["expired_brakes"] = c.expired_brakes.load();
  d["rows_after_expiry"] = c.rows_after_expiry.load();
  d["not_finite"] = c.not_finite.load();
  d["stops"] = c.stops.load();
  d["rate_limited_ticks"] = c.rate_limited_ticks.load();
  d["torque_limited_ticks"] = c.torque_limited_ticks.load();
  return d;
}

nb::dict timing_to_dict(ControlHost & host)
{
  nb::dict d;
  d["period_us_p50"] = host.period_histogram().quantile_us(0.5);
  d["period_us_p99"] = host.period_histogram().quantile_us(0.99);
  d["period_us_p999"] = host.period_histogram().quantile_us(0.999);
  d["compute_us_p50"] = host.compute_histogram().quantile_us(0.5);
  d["compute_us_p99"] = host.compute_histogram().quantile_us(0.99);
  d["plant_us_p50"] = host.plant_histogram().quantile_us(0.5);
  d["plant_us_p99"] = host.plant_histogram().quantile_us(0.99);
  return d;
}

/// Period histogram: (upper edges [us], counts), empty bins left out.
nb::tuple period_bins(ControlHost & host)
{
  std::vector<double> edges;
  std::vector<uint32_t> counts;
  for (size_t i = 0; i < DurationHistogram::kBins; ++i)
  {
    const uint32_t n = host.period_histogram().bin(i);
    if (n == 0) continue;
    edges.push_back(static_cast<double>(i) + 1.0);
    counts.push_back(n);
  }
  return nb::make_tuple(edges, counts);
}

void bind_configs(nb::module_ & m)
{
  nb::class_<SegmentLimits>(m, "SegmentLimits")
    .def(nb::init<>())
    .def_rw("max_speed_m_s", &SegmentLimits::max_speed_m_s)
    .def_rw("max_speed_rad_s", &SegmentLimits::max_speed_rad_s);

  nb::class_<WorkspaceConfig>(m, "WorkspaceConfig", "Box that the reference stays in, base axes.")
    .def(nb::init<>())
    .def_rw("low", &WorkspaceConfig::low)
    .def_rw("high", &WorkspaceConfig::high)
    .def_rw("margin_m", &WorkspaceConfig::margin_m);

  nb::class_<ControlHostConfig>(m, "ControlHostConfig")
    .def(nb::init<>())
    .def_rw("rate_hz", &ControlHostConfig::rate_hz)
    .def_rw("shm_prefix", &ControlHostConfig::shm_prefix)
    .def_rw("sources", &ControlHostConfig::sources)
    .def_rw("workspace", &ControlHostConfig::workspace)
    .def_rw("target_source", &ControlHostConfig::target_source)
    .def_rw("targets_need_lease", &ControlHostConfig::targets_need_lease)
    .def_rw("plant_joint_names", &ControlHostConfig::plant_joint_names)
    .def_rw("initial_gripper_width_m", &ControlHostConfig::initial_gripper_width_m)
    .def_rw("reference", &ControlHostConfig::reference)
    .def_rw("target", &ControlHostConfig::target)
    .def_rw("segment_limits", &ControlHostConfig::segment_limits);

  nb::class_<ArmSetup>(m, "ArmSetup", "One end effector that a control host drives.")
    .def(
      "__init__",
      [](
        ArmSetup * self, std::shared_ptr<RobotModel> model, const LawConfig & law,
        const std::string & base_frame, const std::string & ee_frame,
        const std::vector<std::string> & joint_names, bool robot_adds_gravity)
      {
        const TargetNames names = TargetNames::of_arm(*model, base_frame, ee_frame, joint_names);
        new (self) ArmSetup{std::move(model), law, names, robot_adds_gravity};
      },
      "model"_a, "law"_a, "base_frame"_a, "ee_frame"_a, "joint_names"_a,
      "robot_adds_gravity"_a = false);
}

nb::dict model_terms(const RobotModel & model)
{
  nb::dict d;
  d["position"] = model.ee_pose().position;
  d["quat_xyzw"] = Eigen::Vector4d(model.ee_pose().rotation.coeffs());
  d["twist"] = model.ee_twist();
  d["jacobian"] = Eigen::MatrixXd(model.jacobian());
  d["mass_matrix"] = Eigen::MatrixXd(model.mass_matrix());
  d["gravity"] = Eigen::VectorXd(model.gravity());
  d["coriolis"] = Eigen::VectorXd(model.coriolis());
  return d;
}

void bind_model(nb::module_ & m)
{
  nb::class_<RobotModel>(m, "RobotModel", "Kinematics and dynamics of one arm, from a URDF.")
    .def(
      nb::init<
        const std::string &, const std::vector<std::string> &, const std::string &,
        const std::string &, const std::vector<double> &>(),
      "urdf_xml"_a, "joint_names"_a, "base_frame"_a, "ee_frame"_a,
      "armature"_a = std::vector<double>{})
    .def(
      "update",
      [](RobotModel & model, const std::vector<double> & q, const std::vector<double> & dq)
      {
        const auto n = static_cast<size_t>(model.n_joints());
        if (q.size() != n || dq.size() != n)
        {
          throw Error("q and dq need " + std::to_string(n) + " values");
        }
        model.update(to_joint_vector(q), to_joint_vector(dq));
      },
      "q"_a, "dq"_a)
    .def(
      "set_payload",
      [](
        RobotModel & model, double mass_kg, const Eigen::Vector3d & com_m,
        const Eigen::Matrix3d & inertia_kg_m2)
      { model.set_payload({mass_kg, com_m, inertia_kg_m2}); },
      "mass_kg"_a, "com_m"_a, "inertia_kg_m2"_a, "Load fixed to the end effector.")
    .def("terms", &model_terms, "Pose, Jacobian, mass matrix, gravity, Coriolis at the update.")
    .def_prop_ro("n_joints", &RobotModel::n_joints)
    .def("link_names", &RobotModel::link_names)
    .def(
      "link_poses",
      [](const RobotModel & model)
      {
        std::vector<std::vector<double>> rows;
        for (const Pose & pose : model.link_poses())
        {
          const auto & q = pose.rotation;
          rows.push_back(
            {pose.position.x(), pose.position.y(), pose.position.z(), q.x(), q.y(), q.z(), q.w()});
        }
        return rows;
      });
}

std::string reason_of(Rejection reason)
{
  return reason == Rejection::kNone ? "" : to_string(reason);
}

std::string set_target_pose(
  ControlHost & host, const std::vector<double> & position, const std::vector<double> & quat_xyzw,
  const std::vector<double> & twist, const std::string & frame, int64_t stamp_ns,
  const std::string & arm)
{
  if (position.size() != 3 || quat_xyzw.size() != 4 || (!twist.empty() && twist.size() != 6))
  {
    throw Error("a pose target needs 3 + 4 values and a twist of 6 or none");
  }
  PoseTarget target;
  target.stamp_ns = stamp_ns;
  target.has_twist = twist.empty() ? 0 : 1;
  std::copy(position.begin(), position.end(), target.position);
  std::copy(quat_xyzw.begin(), quat_xyzw.end(), target.quat_xyzw);
  std::copy(twist.begin(), twist.end(), target.twist);
  return reason_of(host.set_target_pose(target, frame, arm));
}

std::string set_target_joint(
  ControlHost & host, const std::vector<std::string> & joint_names, const std::vector<double> & q,
  const std::vector<double> & dq, int64_t stamp_ns, const std::string & arm)
{
  return reason_of(host.set_target_joint(joint_names, q, dq, stamp_ns, arm));
}

std::string set_target_wrench(
  ControlHost & host, const std::vector<double> & wrench, const std::string & frame,
  int64_t stamp_ns, const std::string & arm)
{
  if (wrench.size() != 6) throw Error("a wrench needs 6 values");
  WrenchTarget target;
  target.stamp_ns = stamp_ns;
  std::copy(wrench.begin(), wrench.end(), target.wrench);
  return reason_of(host.set_target_wrench(target, frame, arm));
}

void bind_host(nb::module_ & m)
{
  nb::class_<Plant>(m, "Plant", "The robot as the control host sees it.");
#ifdef VLA_ROS_CORE_MUJOCO
  nb::class_<MujocoPlantConfig>(m, "MujocoPlantConfig")
    .def(nb::init<>())
    .def_rw("library_path", &MujocoPlantConfig::library_path)
    .def_rw("model_path", &MujocoPlantConfig::model_path)
    .def_rw("joint_names", &MujocoPlantConfig::joint_names)
    .def_rw("actuator_names", &MujocoPlantConfig::actuator_names)
    .def_rw("gripper_actuator", &MujocoPlantConfig::gripper_actuator)
    .def_rw("gripper_joint_names", &MujocoPlantConfig::gripper_joint_names)
    .def_rw("gripper_ctrl_per_m", &MujocoPlantConfig::gripper_ctrl_per_m)
    .def_rw("gripper_max_width_m", &MujocoPlantConfig::gripper_max_width_m)
    .def_rw("snapshot_ring", &MujocoPlantConfig::snapshot_ring);
  nb::class_<MujocoPlant, Plant>(m, "MujocoPlant", "MuJoCo through its C API.")
    .def(nb::init<const MujocoPlantConfig &>(), "config"_a)
    .def("request_reset", &MujocoPlant::request_reset, "qpos"_a)
    .def("set_external_force", &MujocoPlant::set_external_force, "body"_a, "force"_a)
    .def_prop_ro("timestep_s", &MujocoPlant::timestep_s)
    .def_prop_ro("scene_epoch", &MujocoPlant::scene_epoch)
    .def("qpos", &MujocoPlant::qpos)
    .def("qvel", &MujocoPlant::qvel)
    .def("bias_force", &MujocoPlant::bias_force);
#endif
  nb::class_<ControlHost>(m, "ControlHost", "The one loop that owns the arm.")
    .def(
      nb::init<const ControlHostConfig &, const std::vector<ArmSetup> &, std::shared_ptr<Plant>>(),
      "config"_a, "arms"_a, "plant"_a)
    .def(
      "run_ticks", &ControlHost::run_ticks, "start_ns"_a, "n"_a,
      nb::call_guard<nb::gil_scoped_release>(), "Virtual time: n ticks from start_ns.")
    .def(
      "start", &ControlHost::start, "priority"_a = "auto", nb::call_guard<nb::gil_scoped_release>())
    .def("shutdown", &ControlHost::shutdown, nb::call_guard<nb::gil_scoped_release>())
    .def("stop", &ControlHost::stop)
    .def("resume", &ControlHost::resume)
    .def(
      "set_law", &ControlHost::set_law, "config"_a, "arm"_a = "",
      nb::call_guard<nb::gil_scoped_release>(),
      "Use other gains from the next tick on; raises Error naming the field and its range.")
    .def(
      "set_target_pose", &set_target_pose, "position"_a, "quat_xyzw"_a,
      "twist"_a = std::vector<double>{}, "frame"_a = "", "stamp_ns"_a = 0, "arm"_a = "",
      "Follow a pose [m] with twist (6,), if known. Returns why it is refused, or ''.")
    .def(
      "set_target_joint", &set_target_joint, "joint_names"_a, "q"_a, "dq"_a = std::vector<double>{},
      "stamp_ns"_a = 0, "arm"_a = "",
      "Follow joint positions [rad]. Returns why they are refused, or ''.")
    .def(
      "set_target_wrench", &set_target_wrench, "wrench"_a, "frame"_a = "", "stamp_ns"_a = 0,
      "arm"_a = "", "Apply a wrench (6,) [N, N·m]. Returns why it is refused, or ''.")
    .def_prop_ro("arms", &ControlHost::ee_frames)
    .def("clear_timing", &ControlHost::clear_timing)
    .def("counters", &counters_to_dict)
    .def("timing", &timing_to_dict)
    .def("period_bins", &period_bins)
    .def(
      "state", [](const ControlHost & host, const std::string & arm)
      { return state_to_dict(host.last_state(arm)); }, "arm"_a = "")
    .def_prop_ro("running", &ControlHost::running)
    .def_prop_ro("priority", &ControlHost::priority);
}

}  // namespace

void bind_control(nb::module_ & m)
{
  bind_reference(m);
  bind_configs(m);
  bind_model(m);
  bind_host(m);
  bind_state(m);
}

}  // namespace vla_ros_core::python
