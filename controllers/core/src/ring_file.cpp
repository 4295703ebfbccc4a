// SPDX-License-Identifier: Apache-2.0
#include "ring_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <utility>

#include "vla_ros_core/error.hpp"
#include "vla_ros_core/realtime.hpp"

namespace vla_ros_core
{

namespace
{

/// A descriptor that is closed when set-up fails, and with it every lock it holds.
class File
{
public:
  explicit File(int fd) : fd_(fd) {}
  ~File()
  {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File &) = delete;
  File & operator=(const File &) = delete;
  int get() const { return fd_; }
  int give() { return std::exchange(fd_, -1); }

private:
  int fd_;
};

std::string shm_path(const std::string & name) { return "/" + name; }

[[noreturn]] void raise_errno(const std::string & what, int error)
{
  std::string hint;
  if (error == ENOSPC)
  {
    hint =
      " (/dev/shm is full: remove stale vla_ros.* files there, or give it more room, in a "
      "container with --shm-size)";
  }
  if (error == EACCES)
  {
    hint = " (another user owns /dev/shm/<name>: remove it or choose another shm_prefix)";
  }
  throw Error(what + ": " + std::strerror(error) + hint);
}

/// The byte that the writer of a ring has locked. Open-file-description locks: they also keep out a
/// second writer in the same process, hold across containers, and end with the process.
struct flock writer_byte(int type)
{
  struct flock lock{};
  lock.l_type = static_cast<short>(type);
  lock.l_whence = SEEK_SET;
  lock.l_start = 0;
  lock.l_len = 1;
  return lock;
}

bool is_locked(int fd) noexcept
{
  struct flock lock = writer_byte(F_WRLCK);
  return fcntl(fd, F_OFD_GETLK, &lock) == 0 && lock.l_type != F_UNLCK;
}

/// Held while a ring is made or looked at, which takes moments; who is frozen meanwhile must not
/// freeze the others.
void lock_set_up(const std::string & name, int fd)
{
  constexpr int64_t kLimitNs = 5'000'000'000;
  constexpr int64_t kPauseNs = 2'000'000;
  const int64_t deadline_ns = monotonic_ns() + kLimitNs;
  while (flock(fd, LOCK_EX | LOCK_NB) != 0)
  {
    if (errno != EWOULDBLOCK && errno != EINTR) raise_errno("cannot lock " + name, errno);
    if (monotonic_ns() > deadline_ns)
    {
      throw Error(
        "shared memory " + name + " has been set up by another process for 5 s: is it frozen?");
    }
    sleep_until_ns(monotonic_ns() + kPauseNs);
  }
}

struct stat status_of(int fd)
{
  struct stat status{};
  fstat(fd, &status);
  return status;
}

/// What can be read of a header without mapping it; the fixed part only.
struct Prefix
{
  uint64_t magic = 0;
  uint32_t version = 0;
  uint32_t n_slots = 0;
  uint64_t slot_bytes = 0;
  uint64_t payload_bytes = 0;
  uint64_t schema_hash = 0;
  uint8_t clock_id[16] = {};
};
static_assert(sizeof(Prefix) == offsetof(RingHeader, clock_id) + 16);

/// Why a file is not a ring that this code can use; empty if it is one.
std::string unusable(const Prefix & found, uint64_t file_bytes)
{
  if (found.magic != kRingMagic) return "is not a ring";
  if (found.version != kRingVersion)
  {
    return "has layout version " + std::to_string(found.version) + ", this program needs " +
           std::to_string(kRingVersion);
  }
  const bool has_room = file_bytes >= kRingHeaderBytes && found.n_slots > 0 &&
                        found.slot_bytes % kRingAlignment == 0 &&
                        found.slot_bytes >= sizeof(RingSlot) &&
                        found.payload_bytes <= found.slot_bytes - sizeof(RingSlot) &&
                        found.slot_bytes <= (file_bytes - kRingHeaderBytes) / found.n_slots;
  if (!has_room) return "is smaller than what its header says";
  if (clock_id() != ClockId{} && std::memcmp(found.clock_id, clock_id().data(), 16) != 0)
  {
    return "was made before this host last started";
  }
  return "";
}

std::string other_schema(const Prefix & found, uint64_t schema_hash)
{
  if (found.schema_hash == schema_hash) return "";
  return "has schema " + std::to_string(found.schema_hash) + ", expected " +
         std::to_string(schema_hash);
}

std::string other_geometry(const Prefix & found, const RingGeometry & wanted)
{
  if (found.n_slots == wanted.n_slots && found.payload_bytes == wanted.payload_bytes) return "";
  return "has " + std::to_string(found.n_slots) + " slots of " +
         std::to_string(found.payload_bytes) + " bytes, expected " +
         std::to_string(wanted.n_slots) + " of " + std::to_string(wanted.payload_bytes);
}

Prefix read_prefix(int fd)
{
  Prefix prefix;
  const ssize_t n = pread(fd, &prefix, sizeof(prefix), 0);
  return n == static_cast<ssize_t>(sizeof(prefix)) ? prefix : Prefix{};
}

int64_t recorded_writer(int fd)
{
  int64_t pid = 0;
  const ssize_t n = pread(fd, &pid, sizeof(pid), offsetof(RingHeader, writer_pid));
  return n == static_cast<ssize_t>(sizeof(pid)) ? pid : 0;
}

/// Tell those who have mapped the file that they will not hear from it again.
void mark_replaced(int fd, const Prefix & found)
{
  const uint32_t yes = 1;
  if (found.magic != kRingMagic || found.version != kRingVersion) return;
  if (pwrite(fd, &yes, sizeof(yes), offsetof(RingHeader, replaced)) < 0) return;
}

void initialise(const std::string & name, int fd, const RingGeometry & g)
{
  reserve_shm(name, fd, g.file_bytes());
  Prefix p;
  p.version = kRingVersion;
  p.n_slots = g.n_slots;
  p.slot_bytes = g.slot_bytes();
  p.payload_bytes = g.payload_bytes;
  p.schema_hash = g.schema_hash;
  std::memcpy(p.clock_id, clock_id().data(), 16);
  const int64_t now_ns = monotonic_ns();
  // The magic comes last: who dies in between leaves something that is not a ring.
  const bool ok =
    pwrite(fd, &p, sizeof(p), 0) == static_cast<ssize_t>(sizeof(p)) &&
    pwrite(fd, &now_ns, sizeof(now_ns), offsetof(RingHeader, created_ns)) == sizeof(now_ns) &&
    pwrite(fd, &kRingMagic, sizeof(kRingMagic), 0) == sizeof(kRingMagic);
  if (!ok) raise_errno("cannot write the header of shared memory " + name, errno);
}

/// An entry that its writer finished but died before announcing: it counts, or the next writer
/// would write another one under the same number.
void count_unannounced_entry(RingMapping & mapping)
{
  RingHeader & header = mapping.header();
  const uint64_t next = header.head.load(std::memory_order_acquire) + 1;
  std::byte * at =
    mapping.base() + kRingHeaderBytes + (next - 1) % header.n_slots * header.slot_bytes;
  const auto * slot = reinterpret_cast<const RingSlot *>(at);
  if (slot->sequence.load(std::memory_order_acquire) == 2 * next)
  {
    header.head.store(next, std::memory_order_release);
  }
}

}  // namespace

uint64_t RingGeometry::slot_bytes() const noexcept
{
  const uint64_t bytes = sizeof(RingSlot) + payload_bytes;
  return (bytes + kRingAlignment - 1) / kRingAlignment * kRingAlignment;
}

void check_shm_name(const std::string & name)
{
  if (name.empty() || name.size() > 200 || name.find('/') != std::string::npos)
  {
    throw Error("shared-memory name must have 1 to 200 characters and no '/', got '" + name + "'");
  }
}

int open_shm(const std::string & name, bool make)
{
  // shm_open does not follow links and sets the close-on-exec flag.
  const int flags = O_RDWR | O_CLOEXEC | (make ? O_CREAT : 0);
  File file(shm_open(shm_path(name).c_str(), flags, 0600));
  if (file.get() < 0) raise_errno("cannot open shared memory " + name, errno);
  const struct stat status = status_of(file.get());
  // Root may open anybody's file; what another user can change is not to be trusted.
  if (status.st_uid != geteuid() || (status.st_mode & 0022) != 0)
  {
    throw Error(
      "shared memory " + name + " belongs to user " + std::to_string(status.st_uid) +
      " or others may write it: remove /dev/shm/" + name + " or choose another shm_prefix");
  }
  return file.give();
}

void reserve_shm(const std::string & name, int fd, uint64_t bytes)
{
  int error = EINTR;
  while (error == EINTR) error = posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  if (error == 0) return;
  shm_unlink(shm_path(name).c_str());
  raise_errno(
    "cannot reserve " + std::to_string(bytes) + " bytes of shared memory for " + name, error);
}

std::shared_ptr<RingMapping> RingMapping::attach(
  const std::string & name, const RingGeometry & geometry, bool as_writer)
{
  check_shm_name(name);
  if (
    geometry.n_slots < 2 || geometry.n_slots > (1U << 20) || geometry.payload_bytes == 0 ||
    geometry.payload_bytes > kRingMaxBytes)
  {
    throw Error(
      name + ": a ring needs 2 to 1048576 slots and a payload of 1 to 2^40 bytes, got " +
      std::to_string(geometry.n_slots) + " slots of " + std::to_string(geometry.payload_bytes) +
      " bytes");
  }
  for (;;)
  {
    File file(open_shm(name, true));
    const int fd = file.get();
    // Held until the ring is whole and its writer known, so that of two who start together one
    // comes second.
    lock_set_up(name, fd);
    const struct stat status = status_of(fd);
    if (status.st_nlink == 0) continue;  // replaced while we waited
    if (status.st_size == 0)
    {
      initialise(name, fd, geometry);
    }
    else
    {
      const Prefix found = read_prefix(fd);
      std::string reason = unusable(found, static_cast<uint64_t>(status.st_size));
      if (reason.empty()) reason = other_geometry(found, geometry);
      if (reason.empty()) reason = other_schema(found, geometry.schema_hash);
      if (!reason.empty())
      {
        if (is_locked(fd))
        {
          throw Error(
            "shared memory " + name + " " + reason + ", and is being written by process " +
            std::to_string(recorded_writer(fd)) + ": stop it or choose another shm_prefix");
        }
        // A new file under the old name, so that old mappings stay intact.
        mark_replaced(fd, found);
        shm_unlink(shm_path(name).c_str());
        continue;
      }
    }
    struct flock claim = writer_byte(F_WRLCK);
    if (as_writer && fcntl(fd, F_OFD_SETLK, &claim) != 0)
    {
      throw Error(
        "shared memory " + name + " is being written by process " +
        std::to_string(recorded_writer(fd)) + ": stop it or choose another shm_prefix");
    }
    std::shared_ptr<RingMapping> mapping(
      new RingMapping(name, file.give(), geometry.file_bytes(), as_writer));
    if (as_writer)
    {
      count_unannounced_entry(*mapping);
      mapping->header().writer_pid.store(getpid());
      mapping->header().heartbeat_ns.store(monotonic_ns());
    }
    flock(mapping->fd_, LOCK_UN);
    return mapping;
  }
}

std::shared_ptr<RingMapping> RingMapping::open(const std::string & name, uint64_t schema_hash)
{
  check_shm_name(name);
  File file(open_shm(name, false));
  lock_set_up(name, file.get());
  const struct stat status = status_of(file.get());
  const Prefix found = read_prefix(file.get());
  flock(file.get(), LOCK_UN);
  const auto bytes = static_cast<uint64_t>(status.st_size);
  std::string reason = unusable(found, bytes);
  if (reason.empty()) reason = other_schema(found, schema_hash);
  if (!reason.empty()) throw Error("shared memory " + name + " " + reason);
  return std::shared_ptr<RingMapping>(new RingMapping(name, file.give(), bytes, false));
}

RingMapping::RingMapping(const std::string & name, int fd, uint64_t bytes, bool as_writer)
: fd_(fd), bytes_(bytes)
{
  // Populated now: the first read in a control loop must not fault.
  const int flags = MAP_SHARED | MAP_POPULATE;
  void * base = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
  if (base == MAP_FAILED)
  {
    const int error = errno;
    ::close(fd);
    raise_errno("cannot map shared memory " + name, error);
  }
  base_ = static_cast<std::byte *>(base);
  // Readers write nothing but the count of those that sleep, which is in the header.
  if (!as_writer) mprotect(base_ + kRingHeaderBytes, bytes - kRingHeaderBytes, PROT_READ);
}

RingMapping::~RingMapping()
{
  munmap(base_, bytes_);
  ::close(fd_);
}

bool RingMapping::is_written() const noexcept { return is_locked(fd_); }

void RingMapping::release_writer() noexcept
{
  header().writer_pid.store(0);
  struct flock release = writer_byte(F_UNLCK);
  fcntl(fd_, F_OFD_SETLK, &release);
}

}  // namespace vla_ros_core
