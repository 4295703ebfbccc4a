// SPDX-License-Identifier: Apache-2.0
// The file behind a ring: who owns it, who writes it, whether it is what we expect.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "vla_ros_core/ring_layout.hpp"

namespace vla_ros_core
{

struct RingGeometry
{
  uint32_t n_slots;
  uint64_t payload_bytes;
  uint64_t schema_hash;

  uint64_t slot_bytes() const noexcept;
  uint64_t file_bytes() const noexcept { return kRingHeaderBytes + n_slots * slot_bytes(); }
};

/// An open, mapped ring file. A writer's holds the file lock that keeps other writers out; the
/// kernel gives it back when the process ends, however it ends.
class RingMapping
{
public:
  ~RingMapping();
  RingMapping(const RingMapping &) = delete;
  RingMapping & operator=(const RingMapping &) = delete;

  /// Open or make the file; as the writer, or as a reader whose slots cannot be written to.
  static std::shared_ptr<RingMapping> attach(
    const std::string & name, const RingGeometry & geometry, bool as_writer);
  /// Open a file that exists, for reading.
  static std::shared_ptr<RingMapping> open(const std::string & name, uint64_t schema_hash);

  std::byte * base() const noexcept { return base_; }
  RingHeader & header() const noexcept { return *reinterpret_cast<RingHeader *>(base_); }
  bool is_written() const noexcept;
  void release_writer() noexcept;

private:
  RingMapping(const std::string & name, int fd, uint64_t bytes, bool as_writer);

  int fd_ = -1;
  std::byte * base_ = nullptr;
  uint64_t bytes_ = 0;
};

/// Throws Error unless `name` can be a file of /dev/shm.
void check_shm_name(const std::string & name);
/// Open a file of /dev/shm that is ours alone. Throws Error that says what is wrong and what to do.
int open_shm(const std::string & name, bool make);
/// Reserve the pages now: a full /dev/shm is an error here instead of a SIGBUS at some later write.
void reserve_shm(const std::string & name, int fd, uint64_t bytes);

}  // namespace vla_ros_core
