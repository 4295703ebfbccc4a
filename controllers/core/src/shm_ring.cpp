// SPDX-License-Identifier: Apache-2.0
// The seqlock of each slot, and the C++ memory model.
//
// Writer: W1 sequence = odd; W2 full fence; W3 stamp, length, payload; W4 full fence;
//         W5 sequence = even (release); W6 head (release); W7 wake sleepers.
// Reader: R1 sequence (acquire), give up unless 2 * n; R2 stamp, length, payload;
//         R3 acquire fence; R4 sequence again, give up unless still 2 * n.
//
// If R2 saw anything of a later write, then the fence W2 comes before the fence R3 in the sense of
// [atomics.fences], so R4 sees W1 or something later, and the entry is dropped. If R1 saw W5 of
// entry n, R2 sees at least all of W3. Counters have 64 bits and never come round.
//
// W2 is a full fence, not a release fence: large payloads are written with streaming stores, which
// on x86 may overtake an ordinary store such as W1 unless a full fence (or sfence) keeps them
// apart. W4 does the same for a payload that was filled in place by whatever code; `stream_copy`
// and glibc's memcpy have an sfence of their own at their end.
//
// Stamp and length are copied as relaxed atomics. The payload is copied by memcpy, or read in
// place: by the letter that is a data race (undefined), as in every seqlock with a payload of
// arbitrary type; ThreadSanitizer would say so. Relaxed atomics for it too were measured to be six
// times slower at 64 KiB, because compilers do not combine them, and could not serve readers in
// place. What makes it sound in practice: the bytes are read into nothing but bytes, no pointer,
// length or branch depends on them before R4, and fences keep the compiler from moving the copy
// past R1 or R4. See Boehm, "Can seqlocks get along with programming language memory models?", MSPC
// 2012.
#include "vla_ros_core/shm_ring.hpp"

#include <linux/futex.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstring>
#include <utility>

#include "ring_file.hpp"
#include "vla_ros_core/error.hpp"
#include "vla_ros_core/realtime.hpp"
#include "vla_ros_core/stamp.hpp"
#include "vla_ros_core/stream_copy.hpp"

namespace vla_ros_core
{

namespace
{

constexpr int kReadAttempts = 4;
constexpr size_t kStampWords = sizeof(LatencyStamp) / 8;

void store_stamp(RingSlot & slot, const LatencyStamp & stamp) noexcept
{
  LatencyStamp sealed = stamp;
  seal(sealed);
  uint64_t words[kStampWords];
  std::memcpy(words, &sealed, sizeof(sealed));
  for (size_t i = 0; i < kStampWords; ++i)
  {
    slot.stamp[i].store(words[i], std::memory_order_relaxed);
  }
}

void load_stamp(const RingSlot & slot, LatencyStamp & stamp) noexcept
{
  uint64_t words[kStampWords];
  for (size_t i = 0; i < kStampWords; ++i)
  {
    words[i] = slot.stamp[i].load(std::memory_order_relaxed);
  }
  std::memcpy(&stamp, words, sizeof(stamp));
}

uint32_t * futex_word(std::atomic<uint32_t> & value) noexcept
{
  return reinterpret_cast<uint32_t *>(&value);
}

/// Sleep while `word` is `expected`, at most until `deadline_ns` of CLOCK_MONOTONIC.
void futex_wait(std::atomic<uint32_t> & word, uint32_t expected, int64_t deadline_ns) noexcept
{
  const timespec deadline{
    static_cast<time_t>(deadline_ns / 1'000'000'000),
    static_cast<long>(deadline_ns % 1'000'000'000)};
  syscall(
    SYS_futex, futex_word(word), FUTEX_WAIT_BITSET, expected, &deadline, nullptr,
    FUTEX_BITSET_MATCH_ANY);
}

}  // namespace

ShmRing ShmRing::create(
  const std::string & name, uint32_t n_slots, uint64_t payload_bytes, uint64_t schema_hash)
{
  return ShmRing(
    name, RingMapping::attach(name, {n_slots, payload_bytes, schema_hash}, true), true);
}

ShmRing ShmRing::prepare(
  const std::string & name, uint32_t n_slots, uint64_t payload_bytes, uint64_t schema_hash)
{
  return ShmRing(
    name, RingMapping::attach(name, {n_slots, payload_bytes, schema_hash}, false), false);
}

ShmRing ShmRing::open(const std::string & name, uint64_t schema_hash)
{
  return ShmRing(name, RingMapping::open(name, schema_hash), false);
}

ShmRing::ShmRing(std::string name, std::shared_ptr<RingMapping> mapping, bool writer)
: name_(std::move(name)), mapping_(std::move(mapping)), base_(mapping_->base())
{
  n_slots_ = header().n_slots;
  slot_bytes_ = header().slot_bytes;
  payload_bytes_ = header().payload_bytes;
  if (writer) writer_pid_ = getpid();
}

ShmRing::ShmRing(ShmRing && other) noexcept { *this = std::move(other); }

ShmRing & ShmRing::operator=(ShmRing && other) noexcept
{
  if (this == &other) return *this;
  close();
  name_ = std::move(other.name_);
  mapping_ = std::move(other.mapping_);
  base_ = std::exchange(other.base_, nullptr);
  n_slots_ = other.n_slots_;
  slot_bytes_ = other.slot_bytes_;
  payload_bytes_ = other.payload_bytes_;
  writer_pid_ = std::exchange(other.writer_pid_, 0);
  return *this;
}

ShmRing::~ShmRing() { close(); }

RingHeader & ShmRing::header() const noexcept { return *reinterpret_cast<RingHeader *>(base_); }

RingSlot & ShmRing::slot(uint64_t seq) const noexcept
{
  return *reinterpret_cast<RingSlot *>(
    base_ + kRingHeaderBytes + (seq - 1) % n_slots_ * slot_bytes_);
}

bool ShmRing::is_writer() const noexcept
{
  return base_ != nullptr && writer_pid_ != 0 && writer_pid_ == getpid();
}

std::byte * ShmRing::begin_write() noexcept
{
  if (!is_writer()) return nullptr;
  const uint64_t seq = header().head.load(std::memory_order_relaxed) + 1;
  RingSlot & target = slot(seq);
  target.sequence.store(2 * seq - 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  return target.payload();
}

uint64_t ShmRing::commit(const LatencyStamp & stamp, uint64_t bytes) noexcept
{
  if (!is_writer() || bytes > payload_bytes_) return 0;
  RingHeader & h = header();
  const uint64_t seq = h.head.load(std::memory_order_relaxed) + 1;
  RingSlot & target = slot(seq);
  if (target.sequence.load(std::memory_order_relaxed) != 2 * seq - 1) return 0;  // not begun
  store_stamp(target, stamp);
  target.bytes.store(bytes, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_seq_cst);
  target.sequence.store(2 * seq, std::memory_order_release);
  h.head.store(seq, std::memory_order_release);
  h.heartbeat_ns.store(monotonic_ns(), std::memory_order_relaxed);
  // Both sequentially consistent, as in `wait`: either this sees the sleeper or the sleeper sees
  // the new value of `notify` and does not go to sleep.
  h.notify.fetch_add(1, std::memory_order_seq_cst);
  if (h.waiters.load(std::memory_order_seq_cst) != 0)
  {
    syscall(SYS_futex, futex_word(h.notify), FUTEX_WAKE, INT_MAX, nullptr, nullptr, 0);
  }
  return seq;
}

uint64_t ShmRing::write(const LatencyStamp & stamp, const void * payload, uint64_t bytes) noexcept
{
  if (bytes > payload_bytes()) return 0;
  std::byte * to = begin_write();
  if (to == nullptr) return 0;
  stream_copy(to, payload, bytes);
  return commit(stamp, bytes);
}

template <bool kCheckAfter>
bool ShmRing::read_entry(
  uint64_t seq, LatencyStamp * stamp, void * payload, uint64_t capacity,
  uint64_t * bytes) const noexcept
{
  if (base_ == nullptr || seq == 0) return false;
  const RingSlot & source = slot(seq);
  if (source.sequence.load(std::memory_order_acquire) != 2 * seq) return false;
  const uint64_t length = source.bytes.load(std::memory_order_relaxed);
  // Also before the check afterwards: a length of another entry must not lead out of the slot.
  if (length > capacity || length > payload_bytes_) return false;
  if (stamp != nullptr) load_stamp(source, *stamp);
  std::memcpy(payload, source.payload(), length);
  if (kCheckAfter && !is_intact(seq)) return false;
  // Not torn, but then by a writer that is not ours.
  if (kCheckAfter && stamp != nullptr && !is_sealed(*stamp)) return false;
  if (bytes != nullptr) *bytes = length;
  return true;
}

template bool ShmRing::read_entry<true>(
  uint64_t, LatencyStamp *, void *, uint64_t, uint64_t *) const noexcept;
template bool ShmRing::read_entry<false>(
  uint64_t, LatencyStamp *, void *, uint64_t, uint64_t *) const noexcept;

bool ShmRing::read_seq(
  uint64_t seq, LatencyStamp * stamp, void * payload, uint64_t capacity,
  uint64_t * bytes) const noexcept
{
  return read_entry<true>(seq, stamp, payload, capacity, bytes);
}

uint64_t ShmRing::read_latest(
  LatencyStamp * stamp, void * payload, uint64_t capacity, uint64_t * bytes,
  uint32_t * attempts) const noexcept
{
  for (int attempt = 0; attempt < kReadAttempts; ++attempt)
  {
    const uint64_t seq = head();
    if (seq == 0) return 0;
    if (attempts != nullptr) ++*attempts;
    if (read_seq(seq, stamp, payload, capacity, bytes)) return seq;
  }
  return 0;
}

bool ShmRing::view_seq(uint64_t seq, RingView & view) const noexcept
{
  if (base_ == nullptr || seq == 0) return false;
  const RingSlot & source = slot(seq);
  if (source.sequence.load(std::memory_order_acquire) != 2 * seq) return false;
  view.seq = seq;
  view.bytes = source.bytes.load(std::memory_order_relaxed);
  view.payload = source.payload();
  load_stamp(source, view.stamp);
  return view.bytes <= payload_bytes_ && is_intact(seq) && is_sealed(view.stamp);
}

bool ShmRing::view_latest(RingView & view) const noexcept
{
  for (int attempt = 0; attempt < kReadAttempts; ++attempt)
  {
    if (view_seq(head(), view)) return true;
  }
  return false;
}

bool ShmRing::is_intact(uint64_t seq) const noexcept
{
  if (base_ == nullptr || seq == 0) return false;
  std::atomic_thread_fence(std::memory_order_acquire);
  return slot(seq).sequence.load(std::memory_order_relaxed) == 2 * seq;
}

uint64_t ShmRing::wait(uint64_t after_seq, int64_t timeout_ns) const noexcept
{
  if (base_ == nullptr) return 0;
  RingHeader & h = header();
  const int64_t now_ns = monotonic_ns();
  const int64_t deadline_ns = timeout_ns < LLONG_MAX - now_ns ? now_ns + timeout_ns : LLONG_MAX;
  // A reader that dies asleep leaves the count too high: needless system calls, nothing worse.
  h.waiters.fetch_add(1, std::memory_order_seq_cst);
  const uint32_t expected = h.notify.load(std::memory_order_seq_cst);
  if (head() <= after_seq && timeout_ns > 0) futex_wait(h.notify, expected, deadline_ns);
  h.waiters.fetch_sub(1, std::memory_order_relaxed);
  const uint64_t newest = head();
  return newest > after_seq ? newest : 0;
}

uint64_t ShmRing::entry_bytes(uint64_t seq) const noexcept
{
  if (base_ == nullptr || seq == 0) return 0;
  const RingSlot & source = slot(seq);
  if (source.sequence.load(std::memory_order_acquire) != 2 * seq) return 0;
  return std::min(source.bytes.load(std::memory_order_relaxed), payload_bytes_);
}

int64_t ShmRing::created_ns() const noexcept { return base_ == nullptr ? 0 : header().created_ns; }

uint64_t ShmRing::head() const noexcept
{
  return base_ == nullptr ? 0 : header().head.load(std::memory_order_acquire);
}

uint64_t ShmRing::payload_bytes() const noexcept { return base_ == nullptr ? 0 : payload_bytes_; }

uint32_t ShmRing::n_slots() const noexcept { return base_ == nullptr ? 0 : n_slots_; }

bool ShmRing::writer_alive() const noexcept
{
  return base_ != nullptr && (is_writer() || mapping_->is_written());
}

int64_t ShmRing::heartbeat_ns() const noexcept
{
  return base_ == nullptr ? 0 : header().heartbeat_ns.load(std::memory_order_relaxed);
}

void ShmRing::beat() noexcept
{
  if (is_writer()) header().heartbeat_ns.store(monotonic_ns(), std::memory_order_relaxed);
}

bool ShmRing::is_replaced() const noexcept
{
  return base_ != nullptr && header().replaced.load(std::memory_order_relaxed) != 0;
}

void ShmRing::close() noexcept
{
  if (base_ == nullptr) return;
  if (is_writer()) mapping_->release_writer();
  mapping_.reset();
  base_ = nullptr;
  writer_pid_ = 0;
}

std::shared_ptr<const void> ShmRing::keep_alive() const { return mapping_; }

void ShmRing::unlink(const std::string & name) noexcept { shm_unlink(("/" + name).c_str()); }

}  // namespace vla_ros_core
