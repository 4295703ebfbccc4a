// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "ring_file.hpp"
#include "vla_ros_core/error.hpp"
#include "vla_ros_core/realtime.hpp"
#include "vla_ros_core/shm_ring.hpp"

namespace vla_ros_core
{

StopFlag::StopFlag(const std::string & name)
{
  check_shm_name(name);
  const int fd = open_shm(name, true);
  try
  {
    reserve_shm(name, fd, sizeof(Shared));
  }
  catch (const Error &)
  {
    ::close(fd);
    throw;
  }
  void * base = mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  const int error = errno;
  ::close(fd);
  if (base == MAP_FAILED)
  {
    throw Error("cannot map shared memory " + name + ": " + std::strerror(error));
  }
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
