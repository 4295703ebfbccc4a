// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <iterator>
#include <string>
#include <vector>

#include "vla_ros_core/error.hpp"
#include "vla_ros_core/records.hpp"
#include "vla_ros_core/robot_model.hpp"

namespace vla_ros_core::python
{

void bind_shm(nanobind::module_ & m);
void bind_segments(nanobind::module_ & m);
void bind_stamp(nanobind::module_ & m);
void bind_control(nanobind::module_ & m);
void bind_state(nanobind::module_ & m);
void bind_law(nanobind::module_ & m);
void bind_reference(nanobind::module_ & m);
void bind_admittance(nanobind::module_ & m);

/// The stamp in 256 bytes; throws Error for what is none of ours or damaged.
LatencyStamp stamp_from(const nanobind::bytes & data);

/// A state as a dictionary of plain values and lists.
nanobind::dict state_to_dict(const StateRecord & s);

inline JointVector to_joint_vector(const std::vector<double> & values)
{
  if (values.size() > kMaxJoints)
  {
    throw Error(
      "at most " + std::to_string(kMaxJoints) + " joints, got " + std::to_string(values.size()));
  }
  return Eigen::Map<const Eigen::VectorXd>(values.data(), static_cast<Eigen::Index>(values.size()));
}

inline std::vector<double> to_list(const double * begin, size_t n) { return {begin, begin + n}; }

template <typename Object>
auto joint_getter(JointVector Object::* member)
{
  return [member](const Object & o)
  { return to_list((o.*member).data(), static_cast<size_t>((o.*member).size())); };
}

template <typename Object>
auto joint_setter(JointVector Object::* member)
{
  return [member](Object & o, const std::vector<double> & v) { o.*member = to_joint_vector(v); };
}

/// A member of a loop object as an array that NumPy shares.
template <typename Loop, typename Member>
auto view_of(Member Loop::* member)
{
  using View = nanobind::ndarray<nanobind::numpy, double, nanobind::ndim<1>>;
  return [member](Loop & loop)
  {
    auto & values = loop.*member;
    return View(std::data(values), {std::size(values)}, nanobind::find(&loop));
  };
}

}  // namespace vla_ros_core::python
