// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_core/shm_ring.hpp"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <utility>

#include "vla_ros_core/error.hpp"
#include "vla_ros_core/realtime.hpp"

namespace vla_ros_core
{

namespace
{

constexpr uint64_t kRingMagic = 0x31474e4952414c56;  // "VLARING1"
constexpr uint64_t kHeaderBytes = 4096;
constexpr uint64_t kAlignment = 64;
constexpr int kReadAttempts = 4;

uint64_t round_up(uint64_t value, uint64_t step) { return (value + step - 1) / step * step; }

/// Start time of a process in clock ticks since boot; tells a restarted writer from a reused pid.
uint64_t process_start_time(int pid) noexcept
{
  char path[64];
  std::snprintf(path, sizeof(path), "/proc/%d/stat", pid);
  FILE * file = std::fopen(path, "r");
  if (file == nullptr) return 0;
  char line[1024];
  const size_t length = std::fread(line, 1, sizeof(line) - 1, file);
  std::fclose(file);
  line[length] = '\0';
  const char * field = std::strrchr(line, ')');
  if (field == nullptr) return 0;
  uint64_t start = 0;
  // After the name: state is field 3, start time field 22.
  std::sscanf(
    field + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %lu",
    &start);
  return start;
}

std::string shm_path(const std::string & name) { return "/" + name; }

[[noreturn]] void raise_errno(const std::string & what)
{
  std::string hint;
  if (errno == ENOSPC) hint = " (/dev/shm is full: remove stale vla_ros.* files there)";
  if (errno == EACCES) hint = " (another user owns it: remove it or choose another shm_prefix)";
  throw Error(what + ": " + std::strerror(errno) + hint);
}

void check_name(const std::string & name)
{
  if (name.empty() || name.size() > 200 || name.find('/') != std::string::npos)
  {
    throw Error("shared-memory name must have 1 to 200 characters and no '/', got '" + name + "'");
  }
}

}  // namespace

struct ShmRing::Header
{
  uint64_t magic;
  uint32_t version;
  uint32_t n_slots;
  uint64_t slot_bytes;
  uint64_t payload_bytes;
  uint64_t schema_hash;
  std::atomic<uint64_t> head;
  std::atomic<int64_t> writer_pid;
  std::atomic<uint64_t> writer_start;
};

struct ShmRing::Slot
{
  std::atomic<uint64_t> sequence;  // 2 * seq while stable, odd while being written
  uint64_t bytes;
  uint8_t padding[48];
  LatencyStamp stamp;
  std::byte * payload() noexcept { return reinterpret_cast<std::byte *>(this) + sizeof(Slot); }
};

ShmRing::ShmRing(std::string name, std::byte * base, uint64_t size, bool writer)
: name_(std::move(name)), base_(base), size_(size), writer_(writer)
{
  const auto * header = reinterpret_cast<const Header *>(base_);
  n_slots_ = header->n_slots;
  slot_bytes_ = header->slot_bytes;
  payload_bytes_ = header->payload_bytes;
}

bool ShmRing::has_room() const noexcept
{
  return n_slots_ > 0 && slot_bytes_ % kAlignment == 0 && slot_bytes_ >= sizeof(Slot) &&
         payload_bytes_ <= slot_bytes_ - sizeof(Slot) &&
         slot_bytes_ <= (size_ - kHeaderBytes) / n_slots_;
}

ShmRing::ShmRing(ShmRing && other) noexcept { *this = std::move(other); }

ShmRing & ShmRing::operator=(ShmRing && other) noexcept
{
  if (this == &other) return *this;
  close();
  name_ = std::move(other.name_);
  base_ = std::exchange(other.base_, nullptr);
  size_ = std::exchange(other.size_, 0);
  n_slots_ = other.n_slots_;
  slot_bytes_ = other.slot_bytes_;
  payload_bytes_ = other.payload_bytes_;
  writer_ = std::exchange(other.writer_, false);
  return *this;
}

ShmRing::~ShmRing() { close(); }

ShmRing ShmRing::prepare(
  const std::string & name, uint32_t n_slots, uint64_t payload_bytes, uint64_t schema_hash)
{
  check_name(name);
  if (n_slots < 2 || payload_bytes == 0)
  {
    throw Error(
      name + ": a ring needs at least 2 slots and a payload, got " + std::to_string(n_slots) +
      " slots of " + std::to_string(payload_bytes) + " bytes");
  }
  const uint64_t slot_bytes = round_up(sizeof(Slot) + payload_bytes, kAlignment);
  const uint64_t size = kHeaderBytes + n_slots * slot_bytes;
  const int fd = shm_open(shm_path(name).c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) raise_errno("cannot open shared memory " + name);
  // The lock keeps two processes that start together from both making the ring.
  flock(fd, LOCK_EX);
  struct stat status{};
  fstat(fd, &status);
  bool fresh = status.st_size == 0;
  if (!fresh && static_cast<uint64_t>(status.st_size) == size)
  {
    void * peek = mmap(nullptr, kHeaderBytes, PROT_READ, MAP_SHARED, fd, 0);
    const auto * header = static_cast<const Header *>(peek);
    fresh = peek == MAP_FAILED || header->magic != kRingMagic || header->n_slots != n_slots ||
            header->payload_bytes != payload_bytes || header->slot_bytes != slot_bytes ||
            header->schema_hash != schema_hash;
    if (peek != MAP_FAILED) munmap(peek, kHeaderBytes);
  }
  else if (!fresh)
  {
    fresh = true;
  }
  if (fresh && status.st_size != 0)
  {
    // Another geometry: a new file under the old name, so that old mappings stay intact.
    shm_unlink(shm_path(name).c_str());
    ::close(fd);
    return prepare(name, n_slots, payload_bytes, schema_hash);
  }
  // posix_fallocate, not ftruncate: a full /dev/shm must be an error here, not a SIGBUS later.
  if (fresh && (errno = posix_fallocate(fd, 0, static_cast<off_t>(size))) != 0)
  {
    const int error = errno;
    ::close(fd);
    shm_unlink(shm_path(name).c_str());
    errno = error;
    raise_errno("cannot reserve " + std::to_string(size) + " bytes of shared memory for " + name);
  }
  void * base = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (base == MAP_FAILED)
  {
    ::close(fd);
    raise_errno("cannot map shared memory " + name);
  }
  if (fresh)
  {
    auto * header = static_cast<Header *>(base);
    header->version = 1;
    header->n_slots = n_slots;
    header->slot_bytes = slot_bytes;
    header->payload_bytes = payload_bytes;
    header->schema_hash = schema_hash;
    std::atomic_thread_fence(std::memory_order_release);
    header->magic = kRingMagic;
  }
  flock(fd, LOCK_UN);
  ::close(fd);
  return ShmRing(name, static_cast<std::byte *>(base), size, false);
}

ShmRing ShmRing::create(
  const std::string & name, uint32_t n_slots, uint64_t payload_bytes, uint64_t schema_hash)
{
  ShmRing ring = prepare(name, n_slots, payload_bytes, schema_hash);
  auto * header = reinterpret_cast<Header *>(ring.base_);
  const int64_t own_pid = getpid();
  int64_t previous = header->writer_pid.load();
  if (ring.writer_alive())
  {
    throw Error(
      "shared memory " + name + " is being written by process " + std::to_string(previous) +
      ": stop it or choose another shm_prefix");
  }
  if (!header->writer_pid.compare_exchange_strong(previous, own_pid))
  {
    throw Error("shared memory " + name + " was taken by process " + std::to_string(previous));
  }
  header->writer_start.store(process_start_time(static_cast<int>(own_pid)));
  ring.writer_ = true;
  return ring;
}

ShmRing ShmRing::open(const std::string & name, uint64_t schema_hash)
{
  check_name(name);
  const int fd = shm_open(shm_path(name).c_str(), O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) raise_errno("cannot open shared memory " + name);
  flock(fd, LOCK_SH);
  struct stat status{};
  fstat(fd, &status);
  const auto size = static_cast<uint64_t>(status.st_size);
  void * base = size < kHeaderBytes
                  ? MAP_FAILED
                  : mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  flock(fd, LOCK_UN);
  ::close(fd);
  if (base == MAP_FAILED) throw Error("shared memory " + name + " is not a ring");
  ShmRing ring(name, static_cast<std::byte *>(base), size, false);
  const auto * header = static_cast<const Header *>(base);
  if (!ring.has_room())
  {
    throw Error("shared memory " + name + " is smaller than what its header says");
  }
  if (header->magic != kRingMagic || header->version != 1)
  {
    throw Error("shared memory " + name + " is not a ring of this version");
  }
  if (header->schema_hash != schema_hash)
  {
    throw Error(
      "shared memory " + name + " has schema " + std::to_string(header->schema_hash) +
      ", expected " + std::to_string(schema_hash));
  }
  return ring;
}

ShmRing::Slot * ShmRing::slot(uint64_t seq) const noexcept
{
  return reinterpret_cast<Slot *>(base_ + kHeaderBytes + (seq - 1) % n_slots_ * slot_bytes_);
}

uint64_t ShmRing::write(const LatencyStamp & stamp, const void * payload, uint64_t bytes) noexcept
{
  if (!writer_ || base_ == nullptr || bytes > payload_bytes()) return 0;
  auto * header = reinterpret_cast<Header *>(base_);
  const uint64_t seq = header->head.load(std::memory_order_relaxed) + 1;
  Slot * target = slot(seq);
  target->sequence.store(2 * seq - 1, std::memory_order_relaxed);
  std::atomic_thread_fence(std::memory_order_release);
  target->bytes = bytes;
  std::memcpy(&target->stamp, &stamp, sizeof(stamp));
  std::memcpy(target->payload(), payload, bytes);
  target->sequence.store(2 * seq, std::memory_order_release);
  header->head.store(seq, std::memory_order_release);
  return seq;
}

bool ShmRing::read_seq(
  uint64_t seq, LatencyStamp * stamp, void * payload, uint64_t capacity,
  uint64_t * bytes) const noexcept
{
  if (base_ == nullptr || seq == 0) return false;
  Slot * source = slot(seq);
  if (source->sequence.load(std::memory_order_acquire) != 2 * seq) return false;
  const uint64_t length = source->bytes;
  if (length > capacity || length > payload_bytes_) return false;
  if (stamp != nullptr) std::memcpy(stamp, &source->stamp, sizeof(*stamp));
  std::memcpy(payload, source->payload(), length);
  std::atomic_thread_fence(std::memory_order_acquire);
  if (source->sequence.load(std::memory_order_relaxed) != 2 * seq) return false;
  if (bytes != nullptr) *bytes = length;
  return true;
}

uint64_t ShmRing::read_latest(
  LatencyStamp * stamp, void * payload, uint64_t capacity, uint64_t * bytes) const noexcept
{
  for (int attempt = 0; attempt < kReadAttempts; ++attempt)
  {
    const uint64_t seq = head();
    if (seq == 0) return 0;
    if (read_seq(seq, stamp, payload, capacity, bytes)) return seq;
  }
  return 0;
}

uint64_t ShmRing::entry_bytes(uint64_t seq) const noexcept
{
  if (base_ == nullptr || seq == 0)
  {
    return 0;
  }
  const Slot * source = slot(seq);
  const bool is_there = source->sequence.load(std::memory_order_acquire) == 2 * seq;
  return is_there ? std::min(source->bytes, payload_bytes()) : 0;
}

uint64_t ShmRing::head() const noexcept
{
  if (base_ == nullptr) return 0;
  return reinterpret_cast<const Header *>(base_)->head.load(std::memory_order_acquire);
}

uint64_t ShmRing::payload_bytes() const noexcept { return base_ == nullptr ? 0 : payload_bytes_; }

uint32_t ShmRing::n_slots() const noexcept { return base_ == nullptr ? 0 : n_slots_; }

bool ShmRing::writer_alive() const noexcept
{
  if (base_ == nullptr) return false;
  const auto * header = reinterpret_cast<const Header *>(base_);
  const auto pid = static_cast<int>(header->writer_pid.load());
  if (pid <= 0 || (kill(pid, 0) != 0 && errno == ESRCH)) return false;
  const uint64_t recorded = header->writer_start.load();
  return recorded == 0 || process_start_time(pid) == recorded;
}

void ShmRing::close() noexcept
{
  if (base_ == nullptr) return;
  if (writer_) reinterpret_cast<Header *>(base_)->writer_pid.store(0);
  munmap(base_, size_);
  base_ = nullptr;
  writer_ = false;
}

void ShmRing::unlink(const std::string & name) noexcept { shm_unlink(shm_path(name).c_str()); }

StopFlag::StopFlag(const std::string & name)
{
  check_name(name);
  const int fd = shm_open(shm_path(name).c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) raise_errno("cannot open shared memory " + name);
  void * base = MAP_FAILED;
  if ((errno = posix_fallocate(fd, 0, sizeof(Shared))) == 0)
  {
    base = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  }
  const int error = errno;
  ::close(fd);
  errno = error;
  if (base == MAP_FAILED) raise_errno("cannot map shared memory " + name);
  shared_ = static_cast<Shared *>(base);
}

StopFlag::~StopFlag() { munmap(shared_, sizeof(Shared)); }

void StopFlag::request() noexcept
{
  shared_->requested_ns.store(monotonic_ns(), std::memory_order_relaxed);
  shared_->count.fetch_add(1, std::memory_order_release);
}

uint64_t StopFlag::count() const noexcept { return shared_->count.load(std::memory_order_acquire); }

int64_t StopFlag::requested_ns() const noexcept
{
  return shared_->requested_ns.load(std::memory_order_relaxed);
}

}  // namespace vla_ros_core
