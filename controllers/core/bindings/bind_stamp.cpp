// SPDX-License-Identifier: Apache-2.0
// The fields of a LatencyStamp as C++ sees them, so that tests can hold them against the table.
#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstring>
#include <string>
#include <type_traits>

#include "bind.hpp"
#include "vla_ros_core/error.hpp"
#include "vla_ros_core/stamp.hpp"

namespace nb = nanobind;

namespace vla_ros_core::python
{

namespace
{

/// Calls `visit(name, offset, member)` for every field, in order.
template <typename Stamp, typename Visit>
void for_each_field(Stamp & s, Visit && visit)
{
#define VLA_ROS_FIELD(name) visit(#name, offsetof(LatencyStamp, name), s.name)
  VLA_ROS_FIELD(magic);
  VLA_ROS_FIELD(version);
  VLA_ROS_FIELD(flags);
  VLA_ROS_FIELD(kind);
  VLA_ROS_FIELD(clock_domain);
  VLA_ROS_FIELD(horizon);
  VLA_ROS_FIELD(confidence);
  VLA_ROS_FIELD(clock_id);
  VLA_ROS_FIELD(seq);
  VLA_ROS_FIELD(parent_seq);
  VLA_ROS_FIELD(anchor_seq);
  VLA_ROS_FIELD(episode_id);
  VLA_ROS_FIELD(epoch);
  VLA_ROS_FIELD(instruction_id);
  VLA_ROS_FIELD(instruction_hash);
  VLA_ROS_FIELD(model_hash);
  VLA_ROS_FIELD(schema_hash);
  VLA_ROS_FIELD(capture_oldest_ns);
  VLA_ROS_FIELD(capture_newest_ns);
  VLA_ROS_FIELD(state_ns);
  VLA_ROS_FIELD(request_ns);
  VLA_ROS_FIELD(infer_start_ns);
  VLA_ROS_FIELD(infer_end_ns);
  VLA_ROS_FIELD(publish_ns);
  VLA_ROS_FIELD(target0_ns);
  VLA_ROS_FIELD(dt_ns);
  VLA_ROS_FIELD(delay_assumed_ns);
  VLA_ROS_FIELD(soft_expire_ns);
  VLA_ROS_FIELD(hard_expire_ns);
  VLA_ROS_FIELD(clock_err_ns);
  VLA_ROS_FIELD(committed_len);
  VLA_ROS_FIELD(reserved);
  VLA_ROS_FIELD(crc32);
#undef VLA_ROS_FIELD
}

LatencyStamp record_of(const nb::bytes & data)
{
  LatencyStamp stamp{};
  if (data.size() != sizeof(stamp))
  {
    throw Error("a stamp has 256 bytes, got " + std::to_string(data.size()));
  }
  std::memcpy(&stamp, data.c_str(), sizeof(stamp));
  return stamp;
}

/// {name: (offset, bytes)} as the compiler laid the struct out.
nb::dict stamp_layout()
{
  LatencyStamp stamp{};
  nb::dict layout;
  for_each_field(
    stamp, [&](const char * name, size_t offset, auto & value)
    { layout[name] = nb::make_tuple(offset, sizeof(value)); });
  return layout;
}

/// {name: value}; arrays as bytes.
nb::dict stamp_fields(const nb::bytes & data)
{
  const LatencyStamp stamp = record_of(data);
  nb::dict fields;
  for_each_field(
    stamp,
    [&](const char * name, size_t, const auto & value)
    {
      if constexpr (std::is_array_v<std::remove_reference_t<decltype(value)>>)
        fields[name] = nb::bytes(value, sizeof(value));
      else
        fields[name] = value;
    });
  return fields;
}

/// The record with these values, magic, version and checksum included.
nb::bytes make_stamp(const nb::dict & fields)
{
  LatencyStamp stamp{};
  stamp.magic = kStampMagic;
  stamp.version = kStampVersion;
  for_each_field(
    stamp,
    [&](const char * name, size_t, auto & value)
    {
      using Value = std::remove_reference_t<decltype(value)>;
      if (!fields.contains(name)) return;
      if constexpr (std::is_array_v<Value>)
      {
        const auto bytes = nb::cast<nb::bytes>(fields[name]);
        if (bytes.size() != sizeof(value)) throw Error(std::string(name) + " has another length");
        std::memcpy(value, bytes.c_str(), sizeof(value));
      }
      else
        value = nb::cast<Value>(fields[name]);
    });
  seal(stamp);
  return nb::bytes(&stamp, sizeof(stamp));
}

}  // namespace

LatencyStamp stamp_from(const nb::bytes & data)
{
  const LatencyStamp stamp = record_of(data);
  if (stamp.magic != kStampMagic) throw Error("not a LatencyStamp: wrong magic");
  if (stamp.version != kStampVersion)
  {
    throw Error(
      "LatencyStamp version " + std::to_string(stamp.version) + ", this code reads " +
      std::to_string(kStampVersion));
  }
  if (!is_sealed(stamp)) throw Error("LatencyStamp checksum differs: damaged on the way here");
  return stamp;
}

void bind_stamp(nb::module_ & m)
{
  m.def("stamp_layout", &stamp_layout, "{field: (offset, bytes)} of the struct in C++.");
  m.def("stamp_fields", &stamp_fields, nb::arg("stamp"), "{field: value} as C++ reads a record.");
  m.def("make_stamp", &make_stamp, nb::arg("fields"), "The record as C++ writes it, sealed.");
}

}  // namespace vla_ros_core::python
