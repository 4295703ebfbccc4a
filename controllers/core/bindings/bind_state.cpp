// SPDX-License-Identifier: Apache-2.0
// The state of an arm, tick by tick, as Python sees it.
#include <nanobind/eigen/dense.h>
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <string>
#include <vector>

#include "bind.hpp"
#include "vla_ros_core/shm_ring.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace vla_ros_core::python
{

nb::dict state_to_dict(const StateRecord & s)
{
  nb::dict d;
  const size_t n = s.n_joints;
  d["seq"] = s.seq;
  d["tick_ns"] = s.tick_ns;
  d["mode"] = s.mode;
  d["epoch"] = s.epoch;
  d["scene_epoch"] = s.scene_epoch;
  d["q"] = to_list(s.q, n);
  d["dq"] = to_list(s.dq, n);
  d["tau"] = to_list(s.tau, n);
  d["tau_external"] = to_list(s.tau_external, n);
  d["position"] = to_list(s.position, 3);
  d["quat_xyzw"] = to_list(s.quat_xyzw, 4);
  d["twist"] = to_list(s.twist, 6);
  d["ref_position"] = to_list(s.ref_position, 3);
  d["ref_quat_xyzw"] = to_list(s.ref_quat_xyzw, 4);
  d["ref_twist"] = to_list(s.ref_twist, 6);
  d["wrench_external"] = to_list(s.wrench_external, 6);
  d["gripper_width_m"] = s.gripper_width_m;
  d["gripper_target_m"] = s.gripper_target_m;
  d["segment_seq"] = s.segment_seq;
  d["segment_capture_ns"] = s.segment_capture_ns;
  d["segment_valid_until_ns"] = s.segment_valid_until_ns;
  d["stop_count"] = s.stop_count;
  d["stop_requested_ns"] = s.stop_requested_ns;
  d["stop_received_ns"] = s.stop_received_ns;
  d["source"] = std::string(s.source, strnlen(s.source, kNameLength));
  return d;
}

namespace
{

template <typename Value, typename Get>
Eigen::Matrix<Value, Eigen::Dynamic, 1> column(const std::vector<StateRecord> & records, Get get)
{
  Eigen::Matrix<Value, Eigen::Dynamic, 1> values(static_cast<Eigen::Index>(records.size()));
  for (size_t i = 0; i < records.size(); ++i)
  {
    values[static_cast<Eigen::Index>(i)] = get(records[i]);
  }
  return values;
}

double speed(const double * twist) { return Eigen::Map<const Eigen::Vector3d>(twist).norm(); }

template <typename Get>
Eigen::MatrixXd rows(const std::vector<StateRecord> & records, size_t width, Get get)
{
  const auto n = static_cast<Eigen::Index>(width);
  Eigen::MatrixXd values(static_cast<Eigen::Index>(records.size()), n);
  for (size_t i = 0; i < records.size(); ++i)
  {
    values.row(static_cast<Eigen::Index>(i)) =
      Eigen::Map<const Eigen::RowVectorXd>(get(records[i]), n);
  }
  return values;
}

/// Reads the state that a control host publishes, from any process.
class StateReader
{
public:
  StateReader(const std::string & shm_prefix, const std::string & arm)
  : ring_(ShmRing::open(shm_prefix + ".state" + (arm.empty() ? "" : "." + arm), 0))
  {
  }

  nb::object latest() const
  {
    StateRecord record{};
    if (ring_.read_latest(nullptr, &record, sizeof(record), nullptr) == 0) return nb::none();
    return state_to_dict(record);
  }

  nb::object at(uint64_t seq) const
  {
    StateRecord record{};
    if (!ring_.read_seq(seq, nullptr, &record, sizeof(record), nullptr)) return nb::none();
    return state_to_dict(record);
  }

  uint64_t head() const { return ring_.head(); }
  bool writer_alive() const { return ring_.writer_alive(); }

  /// Everything since `seq` that is still there, a column or a matrix of rows each: for analysis of
  /// every tick.
  nb::dict since(uint64_t seq) const
  {
    std::vector<StateRecord> records;
    const uint64_t head = ring_.head();
    const uint64_t first =
      std::max(seq + 1, head > ring_.n_slots() ? head - ring_.n_slots() + 2 : 1);
    StateRecord r{};
    for (uint64_t i = first; i <= head; ++i)
    {
      if (ring_.read_seq(i, nullptr, &r, sizeof(r), nullptr)) records.push_back(r);
    }
    nb::dict d;
    d["head"] = head;
    d["tick_ns"] = column<int64_t>(records, [](const auto & s) { return s.tick_ns; });
    d["mode"] = column<uint32_t>(records, [](const auto & s) { return s.mode; });
    d["speed_m_s"] = column<double>(records, [](const auto & s) { return speed(s.twist); });
    d["ref_speed_m_s"] = column<double>(records, [](const auto & s) { return speed(s.ref_twist); });
    d["segment_seq"] = column<uint64_t>(records, [](const auto & s) { return s.segment_seq; });
    d["segment_capture_ns"] =
      column<int64_t>(records, [](const auto & s) { return s.segment_capture_ns; });
    d["gripper_target_m"] =
      column<double>(records, [](const auto & s) { return s.gripper_target_m; });
    d["position"] = rows(records, 3, [](const auto & s) { return s.position; });
    d["quat_xyzw"] = rows(records, 4, [](const auto & s) { return s.quat_xyzw; });
    d["twist"] = rows(records, 6, [](const auto & s) { return s.twist; });
    d["ref_position"] = rows(records, 3, [](const auto & s) { return s.ref_position; });
    d["ref_twist"] = rows(records, 6, [](const auto & s) { return s.ref_twist; });
    d["wrench_external"] = rows(records, 6, [](const auto & s) { return s.wrench_external; });
    const size_t n_joints = records.empty() ? 0 : records.front().n_joints;
    d["tau"] = rows(records, n_joints, [](const auto & s) { return s.tau; });
    return d;
  }

private:
  ShmRing ring_;
};

}  // namespace

void bind_state(nb::module_ & m)
{
  nb::class_<StateReader>(m, "StateReader", "Reads the state a control host publishes.")
    .def(
      nb::init<const std::string &, const std::string &>(), "shm_prefix"_a, "arm"_a = "",
      "arm: end effector of any arm but the first")
    .def("latest", &StateReader::latest)
    .def("at", &StateReader::at, "seq"_a)
    .def("since", &StateReader::since, "seq"_a, "Every tick after seq, as columns.")
    .def_prop_ro("head", &StateReader::head)
    .def("writer_alive", &StateReader::writer_alive);
}

}  // namespace vla_ros_core::python
