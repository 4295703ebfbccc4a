// SPDX-License-Identifier: Apache-2.0
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <vector>

#include "bind.hpp"
#include "vla_ros_core/error.hpp"
#include "vla_ros_core/realtime.hpp"
#include "vla_ros_core/shm_ring.hpp"
#include "vla_ros_core/stream_copy.hpp"

namespace nb = nanobind;

namespace vla_ros_core::python
{

namespace
{

using Bytes = nb::ndarray<const uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

/// A view of any C-contiguous buffer (bytes, bytearray, memoryview, array).
class BufferView
{
public:
  explicit BufferView(nb::handle object)
  {
    if (PyObject_GetBuffer(object.ptr(), &view_, PyBUF_C_CONTIGUOUS) != 0)
    {
      PyErr_Clear();
      throw Error("payload must be a C-contiguous buffer");
    }
  }
  ~BufferView() { PyBuffer_Release(&view_); }
  BufferView(const BufferView &) = delete;
  BufferView & operator=(const BufferView &) = delete;
  const void * data() const { return view_.buf; }
  size_t size() const { return static_cast<size_t>(view_.len); }

private:
  Py_buffer view_{};
};

uint64_t ring_write(ShmRing & ring, const nb::bytes & stamp, nb::handle payload)
{
  const LatencyStamp record = stamp_from(stamp);
  const BufferView view(payload);
  if (view.size() > ring.payload_bytes())
  {
    throw Error(
      ring.name() + " takes at most " + std::to_string(ring.payload_bytes()) + " bytes, got " +
      std::to_string(view.size()));
  }
  uint64_t seq = 0;
  {
    nb::gil_scoped_release release;
    seq = ring.write(record, view.data(), view.size());
  }
  if (seq == 0) throw Error(ring.name() + " was not opened for writing or is closed");
  return seq;
}

/// Read entry `seq` straight into a new bytes object: one copy, nothing zeroed first.
nb::object read_entry(const ShmRing & ring, uint64_t seq, LatencyStamp & stamp)
{
  const uint64_t size = ring.entry_bytes(seq);
  nb::object payload = nb::steal(PyBytes_FromStringAndSize(nullptr, static_cast<Py_ssize_t>(size)));
  if (!payload.is_valid())
  {
    throw nb::python_error();
  }
  uint64_t bytes = 0;
  const bool ok = ring.read_seq(seq, &stamp, PyBytes_AS_STRING(payload.ptr()), size, &bytes);
  return ok && bytes == size ? payload : nb::none();
}

nb::object ring_read_latest(const ShmRing & ring)
{
  for (int attempt = 0; attempt < 4; ++attempt)
  {
    LatencyStamp stamp{};
    const uint64_t seq = ring.head();
    if (seq == 0)
    {
      break;
    }
    nb::object payload = read_entry(ring, seq, stamp);
    if (!payload.is_none())
    {
      return nb::make_tuple(seq, nb::bytes(&stamp, sizeof(stamp)), payload);
    }
  }
  return nb::none();
}

nb::object ring_read_seq(const ShmRing & ring, uint64_t seq)
{
  LatencyStamp stamp{};
  nb::object payload = read_entry(ring, seq, stamp);
  if (payload.is_none())
  {
    return nb::none();
  }
  return nb::make_tuple(nb::bytes(&stamp, sizeof(stamp)), payload);
}

/// Copy the newest entry into a buffer of the caller's, which may be used again and again.
nb::object ring_read_latest_into(
  const ShmRing & ring, nb::ndarray<uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu> buffer)
{
  LatencyStamp stamp{};
  uint64_t bytes = 0;
  const uint64_t seq = ring.read_latest(&stamp, buffer.data(), buffer.shape(0), &bytes);
  if (seq == 0)
  {
    return nb::none();
  }
  return nb::make_tuple(seq, nb::bytes(&stamp, sizeof(stamp)), bytes);
}

/// A view of entry `seq` in place: (seq, stamp, payload), or None. The array keeps the mapping.
nb::object to_python(const ShmRing & ring, const RingView & view)
{
  using Payload = nb::ndarray<nb::numpy, const uint8_t, nb::ndim<1>, nb::c_contig>;
  auto * keeper = new std::shared_ptr<const void>(ring.keep_alive());
  const nb::capsule owner(
    keeper, [](void * p) noexcept { delete static_cast<std::shared_ptr<const void> *>(p); });
  const auto * data = reinterpret_cast<const uint8_t *>(view.payload);
  return nb::make_tuple(
    view.seq, nb::bytes(&view.stamp, sizeof(view.stamp)), Payload(data, {view.bytes}, owner));
}

nb::object ring_view_latest(const ShmRing & ring)
{
  RingView view;
  return ring.view_latest(view) ? to_python(ring, view) : nb::none();
}

nb::object ring_view_seq(const ShmRing & ring, uint64_t seq)
{
  RingView view;
  return ring.view_seq(seq, view) ? to_python(ring, view) : nb::none();
}

/// Room for the next payload; for writers that fill it in place.
nb::object ring_begin_write(ShmRing & ring)
{
  using Room = nb::ndarray<nb::numpy, uint8_t, nb::ndim<1>, nb::c_contig>;
  std::byte * room = ring.begin_write();
  if (room == nullptr) throw Error(ring.name() + " was not opened for writing or is closed");
  auto * keeper = new std::shared_ptr<const void>(ring.keep_alive());
  const nb::capsule owner(
    keeper, [](void * p) noexcept { delete static_cast<std::shared_ptr<const void> *>(p); });
  return nb::cast(Room(reinterpret_cast<uint8_t *>(room), {ring.payload_bytes()}, owner));
}

/// Copy into the room of the next payload, as `write` does.
void ring_fill(ShmRing & ring, uint64_t offset, Bytes values)
{
  std::byte * room = ring.begin_write();
  const uint64_t capacity = ring.payload_bytes();
  if (room == nullptr) throw Error(ring.name() + " was not opened for writing or is closed");
  if (offset > capacity || values.shape(0) > capacity - offset)
  {
    throw Error(
      std::to_string(values.shape(0)) + " bytes at " + std::to_string(offset) +
      " do not fit into the " + std::to_string(capacity) + " of " + ring.name());
  }
  stream_copy(room + offset, values.data(), values.shape(0));
}

uint64_t ring_commit(ShmRing & ring, const nb::bytes & stamp, uint64_t bytes)
{
  const uint64_t seq = ring.commit(stamp_from(stamp), bytes);
  if (seq != 0) return seq;
  throw Error(
    ring.name() + " cannot publish " + std::to_string(bytes) + " of at most " +
    std::to_string(ring.payload_bytes()) + " bytes: nothing was begun, or it is not the writer");
}

/// Sleep with the GIL released; in slices, so that Ctrl-C is heard.
uint64_t ring_wait(const ShmRing & ring, uint64_t after_seq, double timeout_s)
{
  constexpr double kSliceS = 0.1;
  const long long start_ns = monotonic_ns();
  for (;;)
  {
    const double left_s = timeout_s - 1e-9 * static_cast<double>(monotonic_ns() - start_ns);
    uint64_t seq = 0;
    {
      nb::gil_scoped_release release;
      const double slice_s = std::clamp(left_s, 0.0, kSliceS);
      seq = ring.wait(after_seq, static_cast<int64_t>(1e9 * slice_s));
    }
    if (seq != 0 || !(left_s > 0)) return seq;
    if (PyErr_CheckSignals() != 0) throw nb::python_error();
  }
}

}  // namespace

void bind_shm(nb::module_ & m)
{
  nb::class_<ShmRing>(m, "ShmRing", "Single-writer, many-reader ring of stamped payloads.")
    .def_static(
      "create", &ShmRing::create, nb::arg("name"), nb::arg("slots"), nb::arg("payload_bytes"),
      nb::arg("schema_hash") = 0, "Become the writer; a ring left by a dead writer is taken over.")
    .def_static(
      "prepare", &ShmRing::prepare, nb::arg("name"), nb::arg("slots"), nb::arg("payload_bytes"),
      nb::arg("schema_hash") = 0, "Map for reading, making the ring if it does not exist yet.")
    .def_static(
      "open", &ShmRing::open, nb::arg("name"), nb::arg("schema_hash") = 0,
      "Map an existing ring for reading.")
    .def_static("unlink", &ShmRing::unlink, nb::arg("name"), "Remove the file of a ring.")
    .def(
      "write", &ring_write, nb::arg("stamp"), nb::arg("payload"),
      "Write a 256-byte stamp and a payload; returns the number of the entry.")
    .def("read_latest", &ring_read_latest, "(seq, stamp, payload) of the newest entry, or None.")
    .def(
      "read_seq", &ring_read_seq, nb::arg("seq"),
      "(stamp, payload) of an entry, or None if overwritten.")
    .def(
      "read_latest_into", &ring_read_latest_into, nb::arg("buffer"),
      "Copy the newest payload into a uint8 array; (seq, stamp, bytes), or None.")
    .def(
      "view_latest", &ring_view_latest,
      "(seq, stamp, payload) of the newest entry in place, nothing copied; ask is_intact(seq) "
      "after use. None if there is none.")
    .def("view_seq", &ring_view_seq, nb::arg("seq"), "As view_latest, for one entry.")
    .def(
      "is_intact", &ShmRing::is_intact, nb::arg("seq"),
      "False if an entry may have been overwritten since it was looked at.")
    .def(
      "begin_write", &ring_begin_write,
      "Room for the next payload, to be filled in place; touch it only until commit().")
    .def(
      "fill", &ring_fill, nb::arg("offset"), nb::arg("values"),
      "Copy bytes into that room; large ones faster than NumPy can.")
    .def(
      "commit", &ring_commit, nb::arg("stamp"), nb::arg("bytes"),
      "Publish what was filled in since begin_write(); returns the number of the entry.")
    .def(
      "wait", &ring_wait, nb::arg("after_seq"), nb::arg("timeout_s"),
      "Sleep until an entry newer than after_seq exists; its number, or 0 after the timeout.")
    .def("beat", &ShmRing::beat, "Say that the writer lives although it has nothing to write.")
    .def_prop_ro("heartbeat_ns", &ShmRing::heartbeat_ns, "When the writer last wrote or beat.")
    .def_prop_ro(
      "is_replaced", &ShmRing::is_replaced, "True once another file has taken this ring's name.")
    .def_prop_ro("created_ns", &ShmRing::created_ns, "When the file was made.")
    .def_prop_ro("head", &ShmRing::head)
    .def_prop_ro("payload_bytes", &ShmRing::payload_bytes)
    .def_prop_ro("n_slots", &ShmRing::n_slots)
    .def_prop_ro("name", &ShmRing::name)
    .def("writer_alive", &ShmRing::writer_alive, "True while a writer has the ring open.")
    .def("close", &ShmRing::close, "Give up writing and unmap; the file stays.");
}

}  // namespace vla_ros_core::python
