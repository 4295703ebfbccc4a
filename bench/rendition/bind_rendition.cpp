// SPDX-License-Identifier: Apache-2.0
// Module `law_bench`. Configuration and model come from vla_ros_core, whose types it shares.
#include <nanobind/eigen/dense.h>
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "measure.hpp"

namespace nb = nanobind;
using namespace nb::literals;
using namespace vla_ros_bench;

namespace
{

using Array = nb::ndarray<nb::numpy, int64_t, nb::ndim<1>>;

Array to_array(const std::vector<int64_t> & values)
{
  auto * copy = new std::vector<int64_t>(values);
  nb::capsule owner(copy, [](void * p) noexcept { delete static_cast<std::vector<int64_t> *>(p); });
  return Array(copy->data(), {copy->size()}, owner);
}

template <typename Object>
auto array_of(std::vector<int64_t> Object::* member)
{
  return [member](const Object & o) { return to_array(o.*member); };
}

void bind_config(nb::module_ & m)
{
  nb::enum_<Projection>(m, "Projection")
    .value("KINEMATIC", Projection::kKinematic)
    .value("DYNAMIC", Projection::kDynamic)
    .value("NONE", Projection::kNone);
  using C = RenditionConfig;
  nb::class_<C>(m, "RenditionConfig")
    .def_static("for_joints", &C::for_joints, "n_joints"_a)
    .def_rw("operational_space", &C::operational_space)
    .def_rw("operational_regularisation", &C::operational_regularisation)
    .def_rw("end_effector_axes", &C::end_effector_axes)
    .def_rw("stiffness", &C::stiffness)
    .def_rw("damping", &C::damping)
    .def_rw("limit_error", &C::limit_error)
    .def_rw("error_clip", &C::error_clip)
    .def_rw("projection", &C::projection)
    .def_rw("nullspace_regularisation", &C::nullspace_regularisation)
    .def_rw("nullspace_stiffness", &C::nullspace_stiffness)
    .def_rw("nullspace_damping", &C::nullspace_damping)
    .def_rw("nullspace_torque_limit_nm", &C::nullspace_torque_limit_nm)
    .def_rw("friction", &C::friction)
    .def_rw("friction_a", &C::friction_a)
    .def_rw("friction_b", &C::friction_b)
    .def_rw("friction_c", &C::friction_c)
    .def_rw("coriolis", &C::coriolis)
    .def_rw("gravity", &C::gravity)
    .def_rw("limit_range_rad", &C::limit_range_rad)
    .def_rw("limit_torque_nm", &C::limit_torque_nm)
    .def_rw("limit_torque_rate", &C::limit_torque_rate)
    .def_rw("torque_step_nm", &C::torque_step_nm)
    .def_rw("filter_q", &C::filter_q)
    .def_rw("filter_dq", &C::filter_dq)
    .def_rw("filter_target", &C::filter_target)
    .def_rw("filter_posture", &C::filter_posture)
    .def_rw("filter_torque", &C::filter_torque);
}

Eigen::VectorXd step(
  Rendition & rendition, const Eigen::VectorXd & q, const Eigen::VectorXd & dq,
  const Eigen::Vector3d & position, const Eigen::Vector4d & quat_xyzw,
  const Eigen::VectorXd & wrench, const Eigen::VectorXd & posture,
  const Eigen::VectorXd & posture_rate)
{
  RenditionInput in;
  in.q = q;
  in.dq = dq;
  in.position = position;
  in.rotation.coeffs() = quat_xyzw;
  in.wrench = wrench;
  in.posture = posture;
  in.posture_rate = posture_rate;
  return rendition.step(in);
}

}  // namespace

NB_MODULE(law_bench, m)
{
  nb::module_::import_("vla_ros_core");
  bind_config(m);
  nb::class_<Rendition>(m, "Rendition", "The published law with matrices of run-time size and SVD.")
    .def(
      nb::init<
        const std::string &, const std::vector<std::string> &, const std::string &,
        const std::vector<double> &, const RenditionConfig &>(),
      "urdf_xml"_a, "joint_names"_a, "ee_frame"_a, "armature"_a, "config"_a)
    .def("reset", &Rendition::reset, "tau"_a)
    .def(
      "step", &step, "q"_a, "dq"_a, "position"_a, "quat_xyzw"_a, "wrench"_a, "posture"_a,
      "posture_rate"_a);
  nb::class_<States>(m, "States", "Columns are ticks.")
    .def(nb::init<>())
    .def_rw("q", &States::q)
    .def_rw("dq", &States::dq)
    .def_rw("position", &States::position)
    .def_rw("quat_xyzw", &States::quat);
  nb::class_<Durations>(m, "Durations")
    .def_prop_ro("ours_ns", array_of(&Durations::ours_ns), nb::rv_policy::automatic)
    .def_prop_ro("theirs_ns", array_of(&Durations::theirs_ns), nb::rv_policy::automatic)
    .def_ro("largest_difference_nm", &Durations::largest_difference_nm);
  nb::class_<LoopTimes>(m, "LoopTimes")
    .def_prop_ro("law_late_ns", array_of(&LoopTimes::law_late_ns), nb::rv_policy::automatic)
    .def_prop_ro("law_period_ns", array_of(&LoopTimes::law_period_ns), nb::rv_policy::automatic)
    .def_prop_ro("law_compute_ns", array_of(&LoopTimes::law_compute_ns), nb::rv_policy::automatic)
    .def_prop_ro("idle_late_ns", array_of(&LoopTimes::idle_late_ns), nb::rv_policy::automatic)
    .def_prop_ro("idle_period_ns", array_of(&LoopTimes::idle_period_ns), nb::rv_policy::automatic)
    .def_ro("scheduling", &LoopTimes::scheduling);
  m.def(
    "measure",
    [](
      const vla_ros_core::LawConfig & config, std::shared_ptr<vla_ros_core::RobotModel> model,
      Rendition * rendition, const States & states, int block)
    {
      vla_ros_core::Law law(config, std::move(model));
      return measure(law, rendition, states, block);
    },
    "config"_a, "model"_a, "rendition"_a.none(), "states"_a, "block"_a = 100,
    nb::call_guard<nb::gil_scoped_release>());
  m.def(
    "run_loop",
    [](
      const vla_ros_core::LawConfig & config, std::shared_ptr<vla_ros_core::RobotModel> model,
      const States & states, int seconds, double rate_hz, const std::string & priority)
    {
      vla_ros_core::Law law(config, std::move(model));
      return run_loop(law, states, seconds, rate_hz, priority);
    },
    "config"_a, "model"_a, "states"_a, "seconds"_a, "rate_hz"_a, "priority"_a,
    nb::call_guard<nb::gil_scoped_release>());
}
