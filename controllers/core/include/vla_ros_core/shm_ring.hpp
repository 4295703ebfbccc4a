// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "vla_ros_core/records.hpp"
#include "vla_ros_core/ring_layout.hpp"

namespace vla_ros_core
{

/// File, mapping and lock of a ring; lives as long as the ring or anything that looks into it.
class RingMapping;

/// An entry in place: nothing is copied but the stamp. Whatever was computed from `payload` counts
/// only if ShmRing::is_intact(seq) afterwards.
struct RingView
{
  uint64_t seq = 0;
  uint64_t bytes = 0;
  const std::byte * payload = nullptr;  ///< 64-byte aligned
  LatencyStamp stamp{};
};

/// Single-writer, many-reader ring of stamped payloads in /dev/shm.
///
/// Every slot is a seqlock: readers never block the writer and detect a slot that was overwritten
/// while they used it. The file outlives its writer, so readers keep their mapping when a writer
/// restarts and takes the ring over; numbers go on where the dead writer left off. What happens at
/// each fault is a table in docs/latent-buffer.md.
///
/// Thread-safety: one writer in all processes together, in one thread; any number of readers.
class ShmRing
{
public:
  /// Become the writer. A ring left by a dead writer is taken over if its version, geometry and
  /// schema agree, else replaced. Throws Error if another writer lives (in any process, also one of
  /// another container), if /dev/shm is full, or if the file is another user's.
  static ShmRing create(
    const std::string & name, uint32_t n_slots, uint64_t payload_bytes, uint64_t schema_hash);

  /// Map for reading, making the ring if it does not exist yet. For readers that must not have to
  /// open anything later, above all the control loop. Throws Error as `create` does; a living
  /// writer is an error only if its ring is of another version, geometry or schema.
  static ShmRing prepare(
    const std::string & name, uint32_t n_slots, uint64_t payload_bytes, uint64_t schema_hash);

  /// Map an existing ring for reading. Throws Error if absent, stale or of another version or
  /// schema.
  static ShmRing open(const std::string & name, uint64_t schema_hash);

  ShmRing(ShmRing && other) noexcept;
  ShmRing & operator=(ShmRing && other) noexcept;
  ShmRing(const ShmRing &) = delete;
  ShmRing & operator=(const ShmRing &) = delete;
  ~ShmRing();

  /// Write one entry, its stamp with its checksum set, and return its number (1, 2, ...), or 0 if
  /// this is not the writer or the payload is too long. Real-time: wait-free, no allocation,
  /// noexcept; a system call only to wake readers that sleep.
  uint64_t write(const LatencyStamp & stamp, const void * payload, uint64_t bytes) noexcept;

  /// Room for the next payload, `payload_bytes()` long, to be filled in place; nullptr if this is
  /// not the writer. Readers see nothing of it before `commit`; given up, it is used again.
  std::byte * begin_write() noexcept;

  /// Publish what was filled in since `begin_write`; returns as `write` does.
  uint64_t commit(const LatencyStamp & stamp, uint64_t bytes) noexcept;

  /// Copy the newest entry. Returns its number; 0 if there is none, it is longer than `capacity`,
  /// the checksum of its stamp is wrong, or it was overwritten four times while being copied.
  /// `attempts` counts the copies begun. Real-time: bounded, no allocation, noexcept.
  uint64_t read_latest(
    LatencyStamp * stamp, void * payload, uint64_t capacity, uint64_t * bytes,
    uint32_t * attempts = nullptr) const noexcept;

  /// Copy entry number `seq`; false if it is not there (any more).
  bool read_seq(
    uint64_t seq, LatencyStamp * stamp, void * payload, uint64_t capacity,
    uint64_t * bytes) const noexcept;

  /// Look at the newest entry in place; false if there is none. Real-time as `read_latest`.
  bool view_latest(RingView & view) const noexcept;
  bool view_seq(uint64_t seq, RingView & view) const noexcept;

  /// The check after use: false if entry `seq` may have been overwritten since it was looked at.
  bool is_intact(uint64_t seq) const noexcept;

  /// Sleep until an entry newer than `after_seq` exists; returns its number, or 0 after
  /// `timeout_ns` or when a signal arrived. Not for a control loop.
  uint64_t wait(uint64_t after_seq, int64_t timeout_ns) const noexcept;

  /// Length of entry `seq` [bytes]; 0 if it is not there (any more).
  uint64_t entry_bytes(uint64_t seq) const noexcept;

  /// When the file was made; a file that was made anew counts its entries from 1 [ns].
  int64_t created_ns() const noexcept;

  uint64_t head() const noexcept;
  uint64_t payload_bytes() const noexcept;
  uint32_t n_slots() const noexcept;
  const std::string & name() const noexcept { return name_; }

  /// True while a writer has the ring open, even one that is frozen; one system call.
  bool writer_alive() const noexcept;

  /// CLOCK_MONOTONIC at which the writer last wrote or called `beat`; 0 before that [ns]. Tells a
  /// writer that is stuck from one that works. Wait-free.
  int64_t heartbeat_ns() const noexcept;

  /// Say that the writer lives although it has nothing to write.
  void beat() noexcept;

  /// True once another file has taken this ring's name: what is mapped here gets no more entries.
  bool is_replaced() const noexcept;

  /// Give up writing and unmap. The file stays, see the class comment.
  void close() noexcept;

  /// Keeps the mapping, and with it every RingView, valid after `close`.
  std::shared_ptr<const void> keep_alive() const;

  /// Remove the file of a ring; readers keep what they have mapped.
  static void unlink(const std::string & name) noexcept;

private:
  friend struct RingCheckAccess;  // test/ring_check.cpp reads without the check afterwards

  ShmRing(std::string name, std::shared_ptr<RingMapping> mapping, bool writer);
  RingHeader & header() const noexcept;
  RingSlot & slot(uint64_t seq) const noexcept;
  bool is_writer() const noexcept;
  template <bool kCheckAfter>
  bool read_entry(
    uint64_t seq, LatencyStamp * stamp, void * payload, uint64_t capacity,
    uint64_t * bytes) const noexcept;

  std::string name_;
  std::shared_ptr<RingMapping> mapping_;
  std::byte * base_ = nullptr;
  // Copied when the file is mapped: what another process does to the header afterwards must not
  // lead a reader out of its mapping.
  uint32_t n_slots_ = 0;
  uint64_t slot_bytes_ = 0;
  uint64_t payload_bytes_ = 0;
  int writer_pid_ = 0;  ///< 0: not the writer. A forked child is not the writer either.
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
