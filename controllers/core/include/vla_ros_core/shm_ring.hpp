// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "vla_ros_core/records.hpp"

namespace vla_ros_core
{

/// Single-writer, many-reader ring of stamped payloads in /dev/shm.
///
/// Every slot is a seqlock: readers never block the writer and detect a slot that was overwritten
/// while they copied it. The file outlives its writer, so readers keep their mapping when a writer
/// restarts and takes the ring over; numbers go on where the dead writer left off.
///
/// Thread-safety: one writer in all processes together, any number of readers.
class ShmRing
{
public:
  /// Become the writer. A ring left by a dead writer is taken over if its geometry and schema
  /// agree, else replaced. Throws Error if a live process writes it, or /dev/shm is full or
  /// forbidden.
  static ShmRing create(
    const std::string & name, uint32_t n_slots, uint64_t payload_bytes, uint64_t schema_hash);

  /// Map for reading, making the ring if it does not exist yet. For readers that must not have to
  /// open anything later, above all the control loop.
  static ShmRing prepare(
    const std::string & name, uint32_t n_slots, uint64_t payload_bytes, uint64_t schema_hash);

  /// Map an existing ring for reading. Throws Error if absent or of another version or schema.
  static ShmRing open(const std::string & name, uint64_t schema_hash);

  ShmRing(ShmRing && other) noexcept;
  ShmRing & operator=(ShmRing && other) noexcept;
  ShmRing(const ShmRing &) = delete;
  ShmRing & operator=(const ShmRing &) = delete;
  ~ShmRing();

  /// Write one entry and return its number (1, 2, ...), or 0 if this is not the writer or the
  /// payload is too long. Real-time: wait-free, no allocation, noexcept.
  uint64_t write(const LatencyStamp & stamp, const void * payload, uint64_t bytes) noexcept;

  /// Copy the newest entry. Returns its number; 0 if there is none or it was overwritten four times
  /// while being copied. Real-time: bounded, no allocation, noexcept.
  uint64_t read_latest(
    LatencyStamp * stamp, void * payload, uint64_t capacity, uint64_t * bytes) const noexcept;

  /// Copy entry number `seq`; false if it is not there (any more).
  bool read_seq(
    uint64_t seq, LatencyStamp * stamp, void * payload, uint64_t capacity,
    uint64_t * bytes) const noexcept;

  /// Length of entry `seq` [bytes]; 0 if it is not there (any more).
  uint64_t entry_bytes(uint64_t seq) const noexcept;

  uint64_t head() const noexcept;
  uint64_t payload_bytes() const noexcept;
  uint32_t n_slots() const noexcept;
  const std::string & name() const noexcept { return name_; }

  /// True while the process that writes this ring lives.
  bool writer_alive() const noexcept;

  /// Give up writing and unmap. The file stays, see the class comment.
  void close() noexcept;

  /// Remove the file of a ring; readers keep what they have mapped.
  static void unlink(const std::string & name) noexcept;

private:
  struct Header;
  struct Slot;
  ShmRing(std::string name, std::byte * base, uint64_t size, bool writer);
  Slot * slot(uint64_t seq) const noexcept;
  bool has_room() const noexcept;

  std::string name_;
  std::byte * base_ = nullptr;
  uint64_t size_ = 0;
  // Copied when the file is mapped: what another process does to the header afterwards must not
  // lead a reader out of its mapping.
  uint32_t n_slots_ = 0;
  uint64_t slot_bytes_ = 0;
  uint64_t payload_bytes_ = 0;
  bool writer_ = false;
};

/// A counter in shared memory that anyone may raise to stop the arm: no message, queue or policy in
/// between. Thread-safety: any number of requesters and readers.
class StopFlag
{
public:
  explicit StopFlag(const std::string & name);
  ~StopFlag();
  StopFlag(const StopFlag &) = delete;
  StopFlag & operator=(const StopFlag &) = delete;

  void request() noexcept;
  uint64_t count() const noexcept;
  /// CLOCK_MONOTONIC of the newest request [ns].
  int64_t requested_ns() const noexcept;

private:
  struct Shared
  {
    std::atomic<uint64_t> count;
    std::atomic<int64_t> requested_ns;
  };
  Shared * shared_ = nullptr;
};

}  // namespace vla_ros_core
