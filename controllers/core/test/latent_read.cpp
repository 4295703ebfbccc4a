// SPDX-License-Identifier: Apache-2.0
// Reads a latent from a ring as a controller does in update(). Started by the tests:
//   latent_read print <ring> <tensor>   type code, shape and bytes of a tensor
//   latent_read loop <ring> <tensor>    sum of a float64 tensor and allocations of 1000 updates
//   latent_read fuzz <ring> <tensor>    the payload with random damage, in memory of its exact size
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>

#include "vla_ros_core/error.hpp"
#include "vla_ros_core/latent_view.hpp"
#include "vla_ros_core/shm_ring.hpp"

namespace
{
long allocations = 0;
}

#ifndef __SANITIZE_ADDRESS__
extern "C" void * __libc_malloc(size_t n);
extern "C" void * malloc(size_t n)
{
  ++allocations;
  return __libc_malloc(n);
}
#endif

namespace
{

using namespace vla_ros_core;

/// What a controller does at each tick: newest latent, one tensor, used in place, checked after.
bool update(const ShmRing & ring, const char * name, double & sum) noexcept
{
  RingView view;
  TensorView tensor;
  if (!ring.view_latest(view)) return false;
  if (!find_tensor(view.payload, view.bytes, name, tensor)) return false;
  if (tensor.type != TensorType::kFloat64) return false;
  double total = 0.0;
  for (uint64_t at = 0; at < tensor.bytes; at += sizeof(double))
  {
    double value = 0.0;
    std::memcpy(&value, tensor.data + at, sizeof(value));
    total += value;
  }
  if (!ring.is_intact(view.seq)) return false;
  sum += total;
  return true;
}

int print(const RingView & view, const char * name)
{
  TensorView t;
  if (!find_tensor(view.payload, view.bytes, name, t)) return 3;
  std::printf("%d (", static_cast<int>(t.type));
  for (int d = 0; d < t.n_dims; ++d) std::printf("%s%u", d == 0 ? "" : ", ", t.shape[d]);
  std::printf(") ");
  for (uint64_t i = 0; i < t.bytes; ++i) std::printf("%02x", static_cast<unsigned>(t.data[i]));
  std::printf("\n");
  return 0;
}

int loop(const ShmRing & ring, const char * name)
{
  double sum = 0.0;
  int good = 0;
  const long before = allocations;
  for (int i = 0; i < 1000; ++i) good += update(ring, name, sum) ? 1 : 0;
  const long during = allocations - before;
  std::printf("%d %.17g %ld %ld\n", good, sum, during, before);
  return 0;
}

int fuzz(const RingView & view, const char * name)
{
  std::mt19937_64 random(1);
  uint64_t found = 0;
  uint64_t used = 0;
  for (int i = 0; i < 300000; ++i)
  {
    const uint64_t size = random() % 4 == 0 ? random() % (view.bytes + 1) : view.bytes;
    const std::unique_ptr<std::byte[]> data(new std::byte[size]);
    std::memcpy(data.get(), view.payload, size);
    for (uint64_t n = random() % 4; n > 0 && size > 0; --n)
    {
      data[random() % std::min<uint64_t>(size, 120)] = static_cast<std::byte>(random());
    }
    TensorView t;
    if (!find_tensor(data.get(), size, name, t)) continue;
    ++found;
    for (uint64_t at = 0; at < t.bytes; ++at) used += static_cast<uint64_t>(t.data[at]);
  }
  std::printf("%lu %lu\n", found, used);
  return found == 0 ? 4 : 0;
}

}  // namespace

int main(int argc, char ** argv)
{
  if (argc != 4) return 2;
  const std::string mode = argv[1];
  try
  {
    const ShmRing ring = ShmRing::open(argv[2], 0);
    RingView view;
    if (!ring.view_latest(view)) return 5;
    if (mode == "print") return print(view, argv[3]);
    return mode == "loop" ? loop(ring, argv[3]) : fuzz(view, argv[3]);
  }
  catch (const Error & error)
  {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
