// SPDX-License-Identifier: Apache-2.0
// Bytes of a ring in /dev/shm; the table is docs/latent-buffer.md. Little endian, no pointers.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "vla_ros_core/records.hpp"

namespace vla_ros_core
{

inline constexpr uint64_t kRingMagic = 0x31474e4952414c56;  // "VLARING1"
inline constexpr uint32_t kRingVersion = 2;
inline constexpr uint64_t kRingHeaderBytes = 4096;
inline constexpr uint64_t kRingAlignment = 64;
inline constexpr uint64_t kRingMaxBytes = uint64_t{1} << 40;

/// First page of a ring. What never changes comes first; what the writer changes at every entry,
/// and what waiting readers change, has a cache line of its own.
struct RingHeader
{
  uint64_t magic;
  uint32_t version;
  uint32_t n_slots;
  uint64_t slot_bytes;     ///< from one slot to the next
  uint64_t payload_bytes;  ///< longest payload
  uint64_t schema_hash;
  uint8_t clock_id[16];  ///< boot id of the host: a file from before its last start is stale
  int64_t created_ns;
  std::atomic<uint64_t> head;         ///< number of the newest whole entry, 0 before the first
  std::atomic<int64_t> heartbeat_ns;  ///< when the writer last wrote or said that it lives
  std::atomic<int64_t> writer_pid;    ///< for messages; who writes is decided by the file lock
  std::atomic<uint32_t> replaced;     ///< 1: another file has this name now
  uint8_t padding[36];
  std::atomic<uint32_t> notify;   ///< futex word, counts entries
  std::atomic<uint32_t> waiters;  ///< readers that sleep; 0 spares the writer the system call
};
static_assert(offsetof(RingHeader, clock_id) == 40);
static_assert(offsetof(RingHeader, head) == 64);
static_assert(offsetof(RingHeader, replaced) == 88);
static_assert(offsetof(RingHeader, notify) == 128);
static_assert(sizeof(RingHeader) <= kRingHeaderBytes);

/// What precedes each payload. `sequence` is the seqlock: 2 * n while entry n lies here whole,
/// 2 * n - 1 while it is being written, 0 before the first.
struct RingSlot
{
  std::atomic<uint64_t> sequence;
  std::atomic<uint64_t> bytes;
  uint8_t padding[48];
  // The words of a LatencyStamp. Atomic, and so small that this costs nothing.
  std::atomic<uint64_t> stamp[sizeof(LatencyStamp) / 8];

  std::byte * payload() noexcept { return reinterpret_cast<std::byte *>(this + 1); }
  const std::byte * payload() const noexcept
  {
    return reinterpret_cast<const std::byte *>(this + 1);
  }
};
static_assert(offsetof(RingSlot, stamp) == 64);
static_assert(sizeof(RingSlot) == 320 && sizeof(RingSlot) % kRingAlignment == 0);

// In shared memory a lock inside an atomic would be a lock of each process for itself.
static_assert(std::atomic<uint64_t>::is_always_lock_free);
static_assert(std::atomic<uint32_t>::is_always_lock_free);
static_assert(sizeof(std::atomic<uint64_t>) == 8 && sizeof(std::atomic<uint32_t>) == 4);

}  // namespace vla_ros_core
