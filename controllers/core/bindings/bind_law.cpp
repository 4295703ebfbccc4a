// SPDX-License-Identifier: Apache-2.0
#include <nanobind/eigen/dense.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>
#include <vector>

#include "bind.hpp"
#include "vla_ros_core/law.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace vla_ros_core::python
{

namespace
{

/// A law with its inputs and outputs in arrays that NumPy shares: step() then takes one number.
class LawLoop
{
public:
  LawLoop(const LawConfig & config, std::shared_ptr<RobotModel> model)
  : law(config, model), n(static_cast<size_t>(model->n_joints()))
  {
    quat_xyzw[3] = 1.0;
    posture.assign(config.posture.data(), config.posture.data() + n);
    q.resize(n);
    dq.resize(n);
    posture_rate.resize(n);
    tau.resize(n);
    reference_.q.setZero(model->n_joints());
    reference_.dq.setZero(model->n_joints());
    q_ = dq_ = reference_.q;
  }

  uint32_t step(double dt_s) noexcept
  {
    for (size_t i = 0; i < n; ++i)
    {
      const auto k = static_cast<Eigen::Index>(i);
      q_[k] = q[i];
      dq_[k] = dq[i];
      reference_.q[k] = posture[i];
      reference_.dq[k] = posture_rate[i];
    }
    reference_.pose.position = Eigen::Map<const Eigen::Vector3d>(position);
    reference_.pose.rotation.coeffs() = Eigen::Map<const Eigen::Vector4d>(quat_xyzw);
    reference_.twist = Eigen::Map<const Vector6>(twist);
    reference_.acceleration = Eigen::Map<const Vector6>(acceleration);
    reference_.wrench = Eigen::Map<const Vector6>(wrench);
    LawStatus status = LawStatus::kNotFinite;
    if (law.update(q_, dq_, dt_s)) status = law.compute(reference_, dt_s);
    std::copy(law.tau().data(), law.tau().data() + n, tau.begin());
    return static_cast<uint32_t>(status);
  }

  Law law;
  size_t n;
  std::vector<double> q, dq, posture, posture_rate, tau;
  double position[3] = {};
  double quat_xyzw[4] = {};
  double twist[6] = {};
  double acceleration[6] = {};
  double wrench[6] = {};

private:
  LawReference reference_;
  JointVector q_, dq_;
};

void bind_enums(nb::module_ & m)
{
  nb::enum_<LawKind>(m, "LawKind")
    .value("IMPEDANCE", LawKind::kImpedance)
    .value("OPERATIONAL_SPACE", LawKind::kOperationalSpace)
    .value("JOINT", LawKind::kJoint);
  nb::enum_<DampingDesign>(m, "DampingDesign")
    .value("INERTIA_AWARE", DampingDesign::kInertiaAware)
    .value("PLAIN", DampingDesign::kPlain);
  nb::enum_<Projector>(m, "Projector")
    .value("DYNAMIC", Projector::kDynamic)
    .value("KINEMATIC", Projector::kKinematic)
    .value("NONE", Projector::kNone);
  nb::enum_<TaskAxes>(m, "TaskAxes")
    .value("BASE", TaskAxes::kBase)
    .value("END_EFFECTOR", TaskAxes::kEndEffector);
}

void bind_gains(nb::module_ & m)
{
  nb::class_<LawGains>(m, "LawGains", "Gains that may change while the arm moves.")
    .def(nb::init<>())
    .def_static("for_joints", &LawGains::for_joints, "n_joints"_a)
    .def_rw("stiffness", &LawGains::stiffness, "(6, 6) symmetric [N/m, N, N·m/rad]")
    .def_rw("damping_ratio", &LawGains::damping_ratio)
    .def_rw("extra_damping", &LawGains::extra_damping, "(6,) [N·s/m, N·m·s/rad]")
    .def_rw("error_clip", &LawGains::error_clip, "(6,) [m, rad]")
    .def_rw("nullspace_damping_ratio", &LawGains::nullspace_damping_ratio)
    .def_rw("nullspace_torque_limit_nm", &LawGains::nullspace_torque_limit_nm)
    .def_rw("manipulability_gain", &LawGains::manipulability_gain)
    .def_rw("limit_avoidance_gain", &LawGains::limit_avoidance_gain)
    .def_rw("joint_damping_ratio", &LawGains::joint_damping_ratio)
    .def_rw("joint_error_clip_rad", &LawGains::joint_error_clip_rad)
    .def_prop_rw(
      "nullspace_stiffness", joint_getter(&LawGains::nullspace_stiffness),
      joint_setter(&LawGains::nullspace_stiffness))
    .def_prop_rw(
      "joint_stiffness", joint_getter(&LawGains::joint_stiffness),
      joint_setter(&LawGains::joint_stiffness))
    .def_prop_rw(
      "joint_extra_damping", joint_getter(&LawGains::joint_extra_damping),
      joint_setter(&LawGains::joint_extra_damping));
}

void bind_parts(nb::module_ & m)
{
  nb::class_<FrictionModel>(m, "FrictionModel", "a / (1 + exp(-b (dq + c))) minus its value at 0.")
    .def(nb::init<>())
    .def_prop_rw("a", joint_getter(&FrictionModel::a), joint_setter(&FrictionModel::a))
    .def_prop_rw("b", joint_getter(&FrictionModel::b), joint_setter(&FrictionModel::b))
    .def_prop_rw("c", joint_getter(&FrictionModel::c), joint_setter(&FrictionModel::c));
  nb::class_<LawFilters>(m, "LawFilters", "Time constants [s]; 0 leaves a signal alone.")
    .def(nb::init<>())
    .def_rw("position_s", &LawFilters::position_s)
    .def_rw("velocity_s", &LawFilters::velocity_s)
    .def_rw("target_s", &LawFilters::target_s)
    .def_rw("posture_s", &LawFilters::posture_s)
    .def_rw("wrench_s", &LawFilters::wrench_s)
    .def_rw("torque_s", &LawFilters::torque_s);
}

void bind_config(nb::module_ & m)
{
  nb::class_<LawConfig>(m, "LawConfig", "Everything about the law; see law_config.hpp.")
    .def(nb::init<>())
    .def("__copy__", [](const LawConfig & c) { return c; })
    .def_static("for_joints", &LawConfig::for_joints, "n_joints"_a)
    .def("validate", &LawConfig::validate, "n_joints"_a, "Raises Error naming field and range.")
    .def_rw("kind", &LawConfig::kind)
    .def_rw("damping_design", &LawConfig::damping_design)
    .def_rw("projector", &LawConfig::projector)
    .def_rw("axes", &LawConfig::axes)
    .def_rw("gains", &LawConfig::gains)
    .def_rw("gain_ramp_s", &LawConfig::gain_ramp_s)
    .def_rw("stiffening_power_w", &LawConfig::stiffening_power_w)
    .def_rw("kinematic_regularisation", &LawConfig::kinematic_regularisation)
    .def_rw("operational_regularisation", &LawConfig::operational_regularisation)
    .def_rw("compensate_gravity", &LawConfig::compensate_gravity)
    .def_rw("compensate_coriolis", &LawConfig::compensate_coriolis)
    .def_rw("friction", &LawConfig::friction)
    .def_rw("friction_scale", &LawConfig::friction_scale)
    .def_rw("limit_range_rad", &LawConfig::limit_range_rad)
    .def_rw("limit_torque_nm", &LawConfig::limit_torque_nm)
    .def_rw("velocity_limit_damping", &LawConfig::velocity_limit_damping)
    .def_rw("fault_damping", &LawConfig::fault_damping)
    .def_rw("filters", &LawConfig::filters)
    .def_prop_rw("posture", joint_getter(&LawConfig::posture), joint_setter(&LawConfig::posture))
    .def_prop_rw(
      "velocity_limit", joint_getter(&LawConfig::velocity_limit),
      joint_setter(&LawConfig::velocity_limit))
    .def_prop_rw(
      "torque_limit", joint_getter(&LawConfig::torque_limit),
      joint_setter(&LawConfig::torque_limit))
    .def_prop_rw(
      "torque_rate_limit", joint_getter(&LawConfig::torque_rate_limit),
      joint_setter(&LawConfig::torque_rate_limit));
}

}  // namespace

void bind_law(nb::module_ & m)
{
  bind_enums(m);
  bind_gains(m);
  bind_parts(m);
  bind_config(m);
  nb::class_<LawLoop>(
    m, "Law",
    "The control law of one arm. Fill the input arrays, call step(dt_s), read tau. Thread-safety: "
    "one thread.")
    .def(
      nb::init<const LawConfig &, std::shared_ptr<RobotModel>>(), "config"_a, "model"_a,
      "Raises Error naming the field and its range.")
    .def("step", &LawLoop::step, "dt_s"_a, "One tick; returns the status (0: as wanted).")
    .def(
      "apply",
      [](LawLoop & loop, const LawConfig & config)
      {
        config.validate(static_cast<int>(loop.n));
        loop.law.apply(config);
      },
      "config"_a, "Use another configuration from the next tick on; gains are ramped.")
    .def(
      "reset",
      [](LawLoop & loop, const std::vector<double> & tau)
      {
        if (tau.size() != loop.n) throw Error("tau needs " + std::to_string(loop.n) + " values");
        loop.law.reset(to_joint_vector(tau));
        loop.tau = tau;
      },
      "tau"_a, "Continue from a torque that is already applied.")
    .def_prop_ro("q", view_of(&LawLoop::q), "in: joint positions [rad]")
    .def_prop_ro("dq", view_of(&LawLoop::dq), "in: joint velocities [rad/s]")
    .def_prop_ro("position", view_of(&LawLoop::position), "in: target position, base [m]")
    .def_prop_ro("quat_xyzw", view_of(&LawLoop::quat_xyzw), "in: target orientation, base")
    .def_prop_ro("twist", view_of(&LawLoop::twist), "in: target twist [m/s, rad/s]")
    .def_prop_ro("acceleration", view_of(&LawLoop::acceleration), "in: [m/s^2, rad/s^2]")
    .def_prop_ro("wrench", view_of(&LawLoop::wrench), "in: feed-forward wrench [N, N·m]")
    .def_prop_ro("posture", view_of(&LawLoop::posture), "in: posture or joint target [rad]")
    .def_prop_ro("posture_rate", view_of(&LawLoop::posture_rate), "in: its velocity [rad/s]")
    .def_prop_ro("tau", view_of(&LawLoop::tau), "out: torque [N·m]")
    .def_prop_ro("stiffness", [](const LawLoop & loop) { return loop.law.stiffness(); })
    .def_prop_ro("damping", [](const LawLoop & loop) { return loop.law.damping(); })
    .def_prop_ro("task_inertia", [](const LawLoop & loop) { return loop.law.task_inertia(); });
  m.def("do_nothing", [](double) noexcept {}, "value"_a, "An empty call, to measure others by.");
}

}  // namespace vla_ros_core::python
