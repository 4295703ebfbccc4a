// SPDX-License-Identifier: Apache-2.0
// Reads a ring as fast as possible while another process overwrites it as fast as possible, and
// looks at every byte. Prints one line of JSON; exit status 1 if a read that was called good was
// torn. The mode `unguarded` leaves out the check after the copy: it must find torn reads, or this
// program would find none in any case.
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include "vla_ros_core/error.hpp"
#include "vla_ros_core/realtime.hpp"
#include "vla_ros_core/shm_ring.hpp"
#include "vla_ros_core/stamp.hpp"

namespace vla_ros_core
{

/// The only way to a read without the check afterwards.
struct RingCheckAccess
{
  static uint64_t read_unguarded(
    const ShmRing & ring, LatencyStamp * stamp, void * payload, uint64_t capacity)
  {
    const uint64_t seq = ring.head();
    return ring.read_entry<false>(seq, stamp, payload, capacity, nullptr) ? seq : 0;
  }
};

}  // namespace vla_ros_core

namespace
{

using namespace vla_ros_core;

enum class Mode
{
  kCopy,
  kView,
  kUnguarded
};

struct Options
{
  uint64_t payload_bytes = 65536;
  uint64_t reads = 100000;
  uint32_t slots = 2;
  Mode mode = Mode::kCopy;
};

struct Counts
{
  uint64_t reads = 0;      // good ones
  uint64_t torn = 0;       // good ones with a wrong byte
  uint64_t retried = 0;    // good ones that needed more than one attempt
  uint64_t given_up = 0;   // four attempts in vain, or overwritten while looked at
  uint64_t first_bad = 0;  // entry number of the first torn read
  uint64_t entries = 0;    // written meanwhile
  double seconds = 0.0;
};

// Entries that can meet in one slot differ in every word: the number of patterns is a prime, the
// number of slots is not a multiple of it.
constexpr uint64_t kStep = 0x9e3779b97f4a7c15;

uint64_t n_patterns(uint64_t payload_bytes) { return payload_bytes > (1 << 20) ? 5 : 7; }

uint64_t pattern_of(uint64_t seq, uint64_t patterns)
{
  uint64_t x = (seq % patterns + 1) * 0xbf58476d1ce4e5b9;
  x ^= x >> 31;
  return x * 0x94d049bb133111eb;
}

LatencyStamp stamp_of(uint64_t seq)
{
  LatencyStamp stamp{};
  stamp.magic = kStampMagic;
  stamp.version = kStampVersion;
  stamp.seq = seq;
  stamp.model_hash = seq * kStep;
  stamp.hard_expire_ns = static_cast<int64_t>(seq);
  seal(stamp);
  return stamp;
}

bool is_whole(const LatencyStamp & stamp, const void * payload, uint64_t seq, const Options & o)
{
  const LatencyStamp expected = stamp_of(seq);
  if (std::memcmp(&stamp, &expected, sizeof(stamp)) != 0) return false;
  const auto * words = static_cast<const uint64_t *>(payload);
  const uint64_t base = pattern_of(seq, n_patterns(o.payload_bytes));
  uint64_t difference = 0;
  for (uint64_t i = 0; i < o.payload_bytes / 8; ++i) difference |= words[i] ^ (base + i * kStep);
  return difference == 0;
}

void pin_to(int cpu)
{
  cpu_set_t set;
  CPU_ZERO(&set);
  CPU_SET(cpu, &set);
  sched_setaffinity(0, sizeof(set), &set);
}

[[noreturn]] void write_forever(const std::string & name, const Options & o)
{
  if (std::thread::hardware_concurrency() > 1) pin_to(1);
  const uint64_t patterns = n_patterns(o.payload_bytes);
  std::vector<std::vector<uint64_t>> payloads(patterns);
  for (uint64_t k = 0; k < patterns; ++k)
  {
    payloads[k].resize(o.payload_bytes / 8);
    for (uint64_t i = 0; i < payloads[k].size(); ++i)
    {
      payloads[k][i] = pattern_of(k, patterns) + i * kStep;
    }
  }
  ShmRing ring = ShmRing::create(name, o.slots, o.payload_bytes, 0);
  for (uint64_t seq = 1;; ++seq)
  {
    const auto & payload = payloads[seq % patterns];
    if (ring.write(stamp_of(seq), payload.data(), o.payload_bytes) != seq) std::abort();
    if (seq % 1024 == 0 && getppid() == 1) std::exit(2);
  }
}

/// One attempt to get an entry and look at all of it.
void read_once(const ShmRing & ring, const Options & o, std::vector<uint64_t> & copy, Counts & c)
{
  LatencyStamp stamp{};
  uint64_t seq = 0;
  bool is_good = false;
  bool is_right = false;
  uint32_t attempts = 0;
  if (o.mode == Mode::kCopy)
  {
    seq = ring.read_latest(&stamp, copy.data(), o.payload_bytes, nullptr, &attempts);
    is_good = seq != 0;
    is_right = is_good && is_whole(stamp, copy.data(), seq, o);
  }
  else if (o.mode == Mode::kUnguarded)
  {
    seq = RingCheckAccess::read_unguarded(ring, &stamp, copy.data(), o.payload_bytes);
    is_good = seq != 0;
    is_right = is_good && is_whole(stamp, copy.data(), seq, o);
  }
  else
  {
    for (attempts = 1; attempts <= 4 && !is_good; ++attempts)
    {
      RingView view;
      if (!ring.view_latest(view)) continue;
      seq = view.seq;
      is_right = is_whole(view.stamp, view.payload, view.seq, o);
      is_good = ring.is_intact(view.seq);
    }
    --attempts;
  }
  if (!is_good)
  {
    ++c.given_up;
    return;
  }
  ++c.reads;
  if (attempts > 1) ++c.retried;
  if (is_right) return;
  if (c.torn++ == 0) c.first_bad = seq;
}

/// Up to a few microseconds of nothing: reader and writer would otherwise fall into step, and
/// hardly ever meet.
void pause_a_little(uint64_t & random)
{
  random ^= random << 13;
  random ^= random >> 7;
  random ^= random << 17;
  for (uint64_t i = random % 4096; i > 0; --i) std::atomic_signal_fence(std::memory_order_seq_cst);
}

Counts read_all(const std::string & name, const Options & o)
{
  const ShmRing ring = ShmRing::prepare(name, o.slots, o.payload_bytes, 0);
  std::vector<uint64_t> copy(o.payload_bytes / 8);
  Counts c;
  while (ring.head() == 0) ring.wait(0, 100'000'000);
  const uint64_t first = ring.head();
  const int64_t start_ns = monotonic_ns();
  int64_t told_ns = start_ns;
  uint64_t random = kStep;
  while (c.reads < o.reads)
  {
    pause_a_little(random);
    read_once(ring, o, copy, c);
    const int64_t now_ns = monotonic_ns();
    if (now_ns - told_ns > 10'000'000'000)
    {
      told_ns = now_ns;
      std::fprintf(
        stderr, "%lu of %lu reads, %lu torn, %lu retried\n", c.reads, o.reads, c.torn, c.retried);
    }
    if (!ring.writer_alive() && c.given_up > 1000) throw Error("the writer is gone");
  }
  c.seconds = 1e-9 * static_cast<double>(monotonic_ns() - start_ns);
  c.entries = ring.head() - first;
  return c;
}

Options parse(int argc, char ** argv)
{
  Options o;
  if (argc != 5) throw Error("usage: ring_check <bytes> <reads> <slots> copy|view|unguarded");
  o.payload_bytes = std::stoull(argv[1]);
  o.reads = std::stoull(argv[2]);
  o.slots = static_cast<uint32_t>(std::stoul(argv[3]));
  const std::string mode = argv[4];
  if (o.payload_bytes == 0 || o.payload_bytes % 8 != 0) throw Error("bytes: a multiple of 8");
  if (mode == "view") o.mode = Mode::kView;
  if (mode == "unguarded") o.mode = Mode::kUnguarded;
  return o;
}

int run(int argc, char ** argv)
{
  const Options o = parse(argc, argv);
  const std::string name = "vla_ros.ring_check" + std::to_string(getpid());
  const pid_t writer = fork();
  if (writer == 0) write_forever(name, o);
  if (std::thread::hardware_concurrency() > 1) pin_to(0);
  const Counts c = read_all(name, o);
  kill(writer, SIGKILL);
  waitpid(writer, nullptr, 0);
  ShmRing::unlink(name);
  const double retried = static_cast<double>(c.retried) / static_cast<double>(c.reads);
  std::printf(
    "{\"mode\": \"%s\", \"payload_bytes\": %lu, \"slots\": %u, \"reads\": %lu, \"torn\": %lu, "
    "\"retried\": %lu, \"retried_fraction\": %.4f, \"given_up\": %lu, \"entries\": %lu, "
    "\"seconds\": %.1f}\n",
    argv[4], o.payload_bytes, o.slots, c.reads, c.torn, c.retried, retried, c.given_up, c.entries,
    c.seconds);
  if (c.torn != 0) std::fprintf(stderr, "first torn read: entry %lu\n", c.first_bad);
  return c.torn == 0 ? 0 : 1;
}

}  // namespace

int main(int argc, char ** argv)
{
  try
  {
    return run(argc, argv);
  }
  catch (const std::exception & error)
  {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
