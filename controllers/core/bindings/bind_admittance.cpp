// SPDX-License-Identifier: Apache-2.0
#include <nanobind/eigen/dense.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "bind.hpp"
#include "vla_ros_core/admittance.hpp"
#include "vla_ros_core/wrench_estimator.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace vla_ros_core::python
{

namespace
{

RobotModel & checked(const std::shared_ptr<RobotModel> & model)
{
  if (model == nullptr) throw Error("a robot model is needed");
  return *model;
}

void copy_to(const JointVector & from, std::vector<double> & to)
{
  std::copy(from.data(), from.data() + from.size(), to.begin());
}

/// The admittance law with its inputs and outputs in arrays that NumPy shares.
class AdmittanceLoop
{
public:
  AdmittanceLoop(const AdmittanceConfig & config, const std::shared_ptr<RobotModel> & model)
  : law(config, model), n(static_cast<size_t>(model->n_joints())), q(n), dq(n), posture(n)
  {
    copy_to(config.joints.posture, posture);
    input_.posture.setZero(model->n_joints());
    publish();
    take_reference(law.virtual_pose());
  }

  void reset(const std::vector<double> & start)
  {
    if (start.size() != n) throw Error("q needs " + std::to_string(n) + " values");
    if (!law.reset(to_joint_vector(start))) throw Error("q must be finite");
    publish();
    take_reference(law.virtual_pose());
  }

  uint32_t step(double dt_s) noexcept
  {
    input_.pose.position = Eigen::Map<const Eigen::Vector3d>(position);
    input_.pose.rotation.coeffs() = Eigen::Map<const Eigen::Vector4d>(quat_xyzw);
    input_.twist = Eigen::Map<const Vector6>(twist);
    input_.wrench = Eigen::Map<const Vector6>(wrench);
    input_.wrench_age_s = wrench_age_s;
    for (size_t i = 0; i < n; ++i) input_.posture[static_cast<Eigen::Index>(i)] = posture[i];
    const AdmittanceStatus status = law.compute(input_, dt_s);
    publish();
    return static_cast<uint32_t>(status);
  }

  AdmittanceLaw law;
  size_t n;
  std::vector<double> q, dq, posture;
  double position[3] = {};
  double quat_xyzw[4] = {};
  double twist[6] = {};
  double wrench[6] = {};
  double wrench_age_s = std::numeric_limits<double>::infinity();
  double virtual_position[3] = {};
  double virtual_quat_xyzw[4] = {};
  double offset[6] = {};
  double offset_rate[6] = {};

private:
  void publish() noexcept
  {
    copy_to(law.q(), q);
    copy_to(law.dq(), dq);
    const Pose pose = law.virtual_pose();
    Eigen::Map<Eigen::Vector3d>{virtual_position} = pose.position;
    Eigen::Map<Eigen::Vector4d>{virtual_quat_xyzw} = pose.rotation.coeffs();
    Eigen::Map<Vector6>{offset} = law.offset();
    Eigen::Map<Vector6>{offset_rate} = law.offset_rate();
  }

  void take_reference(const Pose & pose) noexcept
  {
    Eigen::Map<Eigen::Vector3d>{position} = pose.position;
    Eigen::Map<Eigen::Vector4d>{quat_xyzw} = pose.rotation.coeffs();
    std::fill(std::begin(twist), std::end(twist), 0.0);
  }

  AdmittanceInput input_;
};

/// The estimator with a model of its own and its arrays shared with NumPy.
class EstimatorLoop
{
public:
  EstimatorLoop(const WrenchEstimatorConfig & config, std::shared_ptr<RobotModel> model)
  : estimator(config, checked(model).n_joints()),
    n(static_cast<size_t>(model->n_joints())),
    q(n),
    dq(n),
    tau(n),
    tau_external(n),
    model_(std::move(model))
  {
    q_ = dq_ = tau_ = JointVector::Zero(model_->n_joints());
  }

  uint32_t step(double dt_s) noexcept
  {
    for (size_t i = 0; i < n; ++i)
    {
      const auto k = static_cast<Eigen::Index>(i);
      q_[k] = q[i];
      dq_[k] = dq[i];
      tau_[k] = tau[i];
    }
    model_->update(q_, dq_, estimator.terms());
    const EstimatorStatus status = estimator.update(*model_, dq_, tau_, dt_s);
    publish();
    return static_cast<uint32_t>(status);
  }

  void reset() noexcept
  {
    estimator.reset();
    publish();
  }

  ExternalWrenchEstimator estimator;
  size_t n;
  std::vector<double> q, dq, tau, tau_external;
  double wrench[6] = {};

private:
  void publish() noexcept
  {
    copy_to(estimator.tau_external(), tau_external);
    Eigen::Map<Vector6>{wrench} = estimator.wrench();
  }

  std::shared_ptr<RobotModel> model_;
  JointVector q_, dq_, tau_;
};

void bind_admittance_parts(nb::module_ & m)
{
  nb::class_<VirtualBody>(m, "VirtualBody", "M, K, D in base axes at the end effector.")
    .def(nb::init<>())
    .def_rw("mass", &VirtualBody::mass, "(6, 6) [kg, kg·m^2]")
    .def_rw("stiffness", &VirtualBody::stiffness, "(6, 6) [N/m, N·m/rad]")
    .def_rw("damping", &VirtualBody::damping, "(6, 6) [N·s/m, N·m·s/rad]")
    .def_rw("damping_ratio", &VirtualBody::damping_ratio, nb::none(), "None: use damping")
    .def_prop_ro("damping_in_force", &VirtualBody::damping_in_force, "(6, 6)");
  nb::class_<WrenchInput>(m, "WrenchInput", "Conditioning of the measured wrench.")
    .def(nb::init<>())
    .def_rw("force_dead_band_n", &WrenchInput::force_dead_band_n)
    .def_rw("torque_dead_band_nm", &WrenchInput::torque_dead_band_nm)
    .def_rw("max_force_n", &WrenchInput::max_force_n)
    .def_rw("max_torque_nm", &WrenchInput::max_torque_nm)
    .def_rw("time_constant_s", &WrenchInput::time_constant_s)
    .def_rw("timeout_s", &WrenchInput::timeout_s)
    .def_rw("decay_s", &WrenchInput::decay_s);
  nb::class_<VirtualLimits>(m, "VirtualLimits", "Bounds of the motion about the reference.")
    .def(nb::init<>())
    .def_rw("speed_m_s", &VirtualLimits::speed_m_s)
    .def_rw("speed_rad_s", &VirtualLimits::speed_rad_s)
    .def_rw("offset_m", &VirtualLimits::offset_m)
    .def_rw("offset_rad", &VirtualLimits::offset_rad);
}

void bind_joint_motion(nb::module_ & m)
{
  nb::class_<JointMotion>(m, "JointMotion", "Inverse kinematics and the limits of the joints.")
    .def(nb::init<>())
    .def_rw("tracking_gain_1_s", &JointMotion::tracking_gain_1_s)
    .def_rw("catch_up_speed_m_s", &JointMotion::catch_up_speed_m_s)
    .def_rw("catch_up_speed_rad_s", &JointMotion::catch_up_speed_rad_s)
    .def_rw("smallest_singular_value", &JointMotion::smallest_singular_value)
    .def_rw("length_m", &JointMotion::length_m)
    .def_rw("posture_gain_1_s", &JointMotion::posture_gain_1_s)
    .def_rw("posture_speed_rad_s", &JointMotion::posture_speed_rad_s)
    .def_rw("position_margin_rad", &JointMotion::position_margin_rad)
    .def_prop_rw(
      "posture", joint_getter(&JointMotion::posture), joint_setter(&JointMotion::posture))
    .def_prop_rw(
      "velocity_limit", joint_getter(&JointMotion::velocity_limit),
      joint_setter(&JointMotion::velocity_limit))
    .def_prop_rw(
      "acceleration_limit", joint_getter(&JointMotion::acceleration_limit),
      joint_setter(&JointMotion::acceleration_limit));
}

void bind_admittance_config(nb::module_ & m)
{
  nb::class_<AdmittanceConfig>(m, "AdmittanceConfig", "See admittance.hpp.")
    .def(nb::init<>())
    .def("__copy__", [](const AdmittanceConfig & c) { return c; })
    .def_static("for_joints", &AdmittanceConfig::for_joints, "n_joints"_a)
    .def(
      "validate", &AdmittanceConfig::validate, "n_joints"_a, "Raises Error naming field and range.")
    .def_rw("body", &AdmittanceConfig::body)
    .def_rw("wrench", &AdmittanceConfig::wrench)
    .def_rw("limits", &AdmittanceConfig::limits)
    .def_rw("joints", &AdmittanceConfig::joints);
  nb::enum_<AdmittanceStatus>(m, "AdmittanceStatus", nb::is_arithmetic())
    .value("OK", AdmittanceStatus::kOk)
    .value("VIRTUAL_LIMITED", AdmittanceStatus::kVirtualLimited)
    .value("JOINT_LIMITED", AdmittanceStatus::kJointLimited)
    .value("STALE_WRENCH", AdmittanceStatus::kStaleWrench)
    .value("BAD_WRENCH", AdmittanceStatus::kBadWrench)
    .value("BAD_REFERENCE", AdmittanceStatus::kBadReference)
    .value("NOT_FINITE", AdmittanceStatus::kNotFinite);
}

void bind_admittance_law(nb::module_ & m)
{
  nb::class_<AdmittanceLoop>(
    m, "AdmittanceLaw",
    "Compliance for arms without torque interface. Fill the input arrays, call step(dt_s), read q "
    "and dq. The model must be used by nothing else. Thread-safety: one thread.")
    .def(
      nb::init<const AdmittanceConfig &, const std::shared_ptr<RobotModel> &>(), "config"_a,
      "model"_a, "Raises Error naming the field and its range.")
    .def("reset", &AdmittanceLoop::reset, "q"_a, "Start at rest at q; the reference is its pose.")
    .def(
      "apply",
      [](AdmittanceLoop & loop, const AdmittanceConfig & config)
      {
        config.validate(static_cast<int>(loop.n));
        loop.law.apply(config);
      },
      "config"_a, "Use another configuration from the next tick on.")
    .def("step", &AdmittanceLoop::step, "dt_s"_a, "One tick; returns the status (0: as wanted).")
    .def_prop_ro("position", view_of(&AdmittanceLoop::position), "in: reference, base [m]")
    .def_prop_ro("quat_xyzw", view_of(&AdmittanceLoop::quat_xyzw), "in: reference, base")
    .def_prop_ro("twist", view_of(&AdmittanceLoop::twist), "in: of the reference [m/s, rad/s]")
    .def_prop_ro("wrench", view_of(&AdmittanceLoop::wrench), "in: by the world [N, N·m]")
    .def_rw("wrench_age_s", &AdmittanceLoop::wrench_age_s, "in: age of the wrench; inf: none yet")
    .def_prop_ro("posture", view_of(&AdmittanceLoop::posture), "in: posture [rad]")
    .def_prop_ro("q", view_of(&AdmittanceLoop::q), "out: joint positions [rad]")
    .def_prop_ro("dq", view_of(&AdmittanceLoop::dq), "out: joint velocities [rad/s]")
    .def_prop_ro("virtual_position", view_of(&AdmittanceLoop::virtual_position), "out: [m]")
    .def_prop_ro("virtual_quat_xyzw", view_of(&AdmittanceLoop::virtual_quat_xyzw), "out")
    .def_prop_ro("offset", view_of(&AdmittanceLoop::offset), "out: from the reference [m, rad]")
    .def_prop_ro("offset_rate", view_of(&AdmittanceLoop::offset_rate), "out: [m/s, rad/s]")
    .def_prop_ro("wrench_felt", [](const AdmittanceLoop & loop) { return loop.law.wrench(); });
}

void bind_estimator(nb::module_ & m)
{
  nb::class_<WrenchEstimatorConfig>(m, "WrenchEstimatorConfig", "See wrench_estimator.hpp.")
    .def(nb::init<>())
    .def("validate", &WrenchEstimatorConfig::validate, "n_joints"_a)
    .def_rw("time_constant_s", &WrenchEstimatorConfig::time_constant_s)
    .def_rw("robot_adds_gravity", &WrenchEstimatorConfig::robot_adds_gravity)
    .def_rw("robot_adds_coriolis", &WrenchEstimatorConfig::robot_adds_coriolis)
    .def_rw("friction", &WrenchEstimatorConfig::friction)
    .def_rw("largest_mass_kg", &WrenchEstimatorConfig::largest_mass_kg)
    .def_rw("length_m", &WrenchEstimatorConfig::length_m)
    .def_rw("max_step_s", &WrenchEstimatorConfig::max_step_s);
  nb::class_<EstimatorLoop>(
    m, "ExternalWrenchEstimator",
    "External joint torque and wrench from torque and motion. Fill q, dq (of now) and tau (since "
    "the last step), call step(dt_s). Thread-safety: one thread.")
    .def(
      nb::init<const WrenchEstimatorConfig &, std::shared_ptr<RobotModel>>(), "config"_a, "model"_a,
      "Raises Error naming the field and its range.")
    .def("step", &EstimatorLoop::step, "dt_s"_a, "0: ok, 1: first sample, 2: bad input.")
    .def("reset", &EstimatorLoop::reset)
    .def_prop_ro("q", view_of(&EstimatorLoop::q), "in: joint positions [rad]")
    .def_prop_ro("dq", view_of(&EstimatorLoop::dq), "in: joint velocities [rad/s]")
    .def_prop_ro("tau", view_of(&EstimatorLoop::tau), "in: torque since the last step [N·m]")
    .def_prop_ro("tau_external", view_of(&EstimatorLoop::tau_external), "out: [N·m]")
    .def_prop_ro("wrench", view_of(&EstimatorLoop::wrench), "out: by the world, base axes");
}

}  // namespace

void bind_admittance(nb::module_ & m)
{
  bind_admittance_parts(m);
  bind_joint_motion(m);
  bind_admittance_config(m);
  bind_admittance_law(m);
  bind_estimator(m);
}

}  // namespace vla_ros_core::python
