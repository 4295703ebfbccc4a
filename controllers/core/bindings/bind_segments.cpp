// SPDX-License-Identifier: Apache-2.0
// What is exchanged with the control host through rings of fixed layout: segments, leases, stops.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>

#include <cstring>
#include <string>

#include "bind.hpp"
#include "vla_ros_core/error.hpp"
#include "vla_ros_core/segment_inbox.hpp"
#include "vla_ros_core/shm_ring.hpp"
#include "vla_ros_core/stamp.hpp"

namespace nb = nanobind;

namespace vla_ros_core::python
{

namespace
{

using Rows = nb::ndarray<const double, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using Column = nb::ndarray<const double, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using Times = nb::ndarray<const int64_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

/// Writes segments of one source; keeps the layout of SegmentRecord out of Python.
class SegmentWriter
{
public:
  SegmentWriter(const std::string & shm_prefix, const std::string & source)
  : ring_(
      ShmRing::create(shm_prefix + ".segment." + source, kSegmentSlots, sizeof(SegmentRecord), 0))
  {
  }

  uint64_t write(
    const nb::bytes & stamp, Times target_ns, Rows positions, Rows quats, Rows twists,
    Column gripper, int64_t valid_until_ns, uint32_t epoch, uint64_t episode_id)
  {
    const size_t n = target_ns.shape(0);
    if (n < 1 || n > kMaxRows)
    {
      throw Error("a segment has 1 to 64 rows, got " + std::to_string(n));
    }
    check("positions", positions, n, 3);
    check("quats_xyzw", quats, n, 4);
    check("twists_base", twists, n, 6);
    if (gripper.shape(0) != n) throw Error("gripper_width_m needs one value per row");
    record_.n_rows = static_cast<uint32_t>(n);
    record_.epoch = epoch;
    record_.episode_id = episode_id;
    record_.valid_until_ns = valid_until_ns;
    for (size_t i = 0; i < n; ++i)
    {
      SegmentRow & row = record_.rows[i];
      row.target_ns = target_ns.data()[i];
      std::memcpy(row.position, positions.data() + 3 * i, sizeof(row.position));
      std::memcpy(row.quat_xyzw, quats.data() + 4 * i, sizeof(row.quat_xyzw));
      std::memcpy(row.twist, twists.data() + 6 * i, sizeof(row.twist));
      row.gripper_width_m = gripper.data()[i];
    }
    const uint64_t bytes = offsetof(SegmentRecord, rows) + n * sizeof(SegmentRow);
    return ring_.write(stamp_from(stamp), &record_, bytes);
  }

  void close() { ring_.close(); }

private:
  static void check(const char * name, const Rows & rows, size_t n, size_t width)
  {
    if (rows.shape(0) != n || rows.shape(1) != width)
    {
      throw Error(
        std::string(name) + " must have shape (" + std::to_string(n) + ", " +
        std::to_string(width) + ")");
    }
  }

  ShmRing ring_;
  SegmentRecord record_{};
};

/// Grants authority by writing leases; the supervisor is the only one.
class LeaseWriter
{
public:
  explicit LeaseWriter(const std::string & shm_prefix)
  : ring_(ShmRing::create(shm_prefix + ".lease", kLeaseSlots, sizeof(LeaseRecord), 0))
  {
  }

  void write(const std::string & source, uint32_t epoch, int64_t expiry_ns, uint32_t instruction_id)
  {
    if (source.size() >= kNameLength) throw Error("a source name has at most 31 characters");
    LeaseRecord record{};
    record.epoch = epoch;
    record.expiry_ns = expiry_ns;
    record.instruction_id = instruction_id;
    std::memcpy(record.source, source.data(), source.size());
    LatencyStamp stamp{};
    stamp.magic = kStampMagic;
    stamp.version = kStampVersion;
    stamp.epoch = epoch;
    ring_.write(stamp, &record, sizeof(record));
  }

  void close() { ring_.close(); }

private:
  ShmRing ring_;
};

/// Reads leases; for those who must know the epoch in force.
class LeaseReader
{
public:
  explicit LeaseReader(const std::string & shm_prefix)
  : ring_(ShmRing::prepare(shm_prefix + ".lease", kLeaseSlots, sizeof(LeaseRecord), 0))
  {
  }

  nb::object latest() const
  {
    LeaseRecord record{};
    if (ring_.read_latest(nullptr, &record, sizeof(record), nullptr) == 0) return nb::none();
    record.source[kNameLength - 1] = '\0';
    return nb::make_tuple(nb::str(record.source), record.epoch, record.expiry_ns);
  }

private:
  ShmRing ring_;
};

}  // namespace

void bind_segments(nb::module_ & m)
{
  nb::class_<StopFlag>(m, "StopFlag", "Counter in shared memory that anyone may raise to stop.")
    .def(nb::init<const std::string &>(), nb::arg("name"))
    .def("request", &StopFlag::request)
    .def_prop_ro("count", &StopFlag::count);

  nb::class_<SegmentWriter>(m, "SegmentWriter", "Writes the segments of one source.")
    .def(
      nb::init<const std::string &, const std::string &>(), nb::arg("shm_prefix"),
      nb::arg("source"))
    .def(
      "write", &SegmentWriter::write, nb::arg("stamp"), nb::arg("target_ns"), nb::arg("positions"),
      nb::arg("quats_xyzw"), nb::arg("twists_base"), nb::arg("gripper_width_m"),
      nb::arg("valid_until_ns"), nb::arg("epoch"), nb::arg("episode_id"))
    .def("close", &SegmentWriter::close);

  nb::class_<LeaseWriter>(m, "LeaseWriter", "Grants authority over the arm.")
    .def(nb::init<const std::string &>(), nb::arg("shm_prefix"))
    .def(
      "write", &LeaseWriter::write, nb::arg("source"), nb::arg("epoch"), nb::arg("expiry_ns"),
      nb::arg("instruction_id") = 0, "instruction_id: rows of another one end; 0: any may be sent.")
    .def("close", &LeaseWriter::close);

  nb::class_<LeaseReader>(m, "LeaseReader", "Reads who has authority.")
    .def(nb::init<const std::string &>(), nb::arg("shm_prefix"))
    .def("latest", &LeaseReader::latest, "(source, epoch, expiry_ns), or None.");
}

}  // namespace vla_ros_core::python
