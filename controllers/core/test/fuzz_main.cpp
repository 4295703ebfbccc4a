// SPDX-License-Identifier: Apache-2.0
// Runs the fuzz target where libFuzzer is missing: seeded random inputs and changed copies of
// earlier ones. Usage: fuzz_law [seconds] [seed] [file to run instead]
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size);

namespace
{

using Bytes = std::vector<uint8_t>;

void change(Bytes & bytes, std::mt19937_64 & random)
{
  const uint64_t n = 1 + random() % 8;
  for (uint64_t i = 0; i < n && !bytes.empty(); ++i)
  {
    bytes[random() % bytes.size()] =
      static_cast<uint8_t>(random() % 3 == 0 ? random() % 8 : random());
  }
  if (random() % 8 == 0) bytes.resize(random() % 2048);
}

/// Kept for the one who looks for the cause: the input that was running when the process died.
void remember(const Bytes & bytes)
{
  std::ofstream file("fuzz_law.last", std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char *>(bytes.data()), static_cast<long>(bytes.size()));
}

}  // namespace

int main(int argc, char ** argv)
{
  const double seconds = argc > 1 ? std::atof(argv[1]) : 5.0;
  const uint64_t seed = argc > 2 ? std::strtoull(argv[2], nullptr, 10) : 1;
  if (argc > 3)
  {
    std::ifstream file(argv[3], std::ios::binary);
    const Bytes bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
    return LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::mt19937_64 random(seed);
  std::vector<Bytes> corpus(64);
  for (Bytes & bytes : corpus)
  {
    bytes.resize(1200);
    for (uint8_t & b : bytes) b = static_cast<uint8_t>(random());
  }
  const bool keeps = std::getenv("FUZZ_KEEP_LAST") != nullptr;
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration<double>(seconds);
  uint64_t runs = 0;
  for (; runs % 256 != 0 || Clock::now() < end; ++runs)
  {
    Bytes & bytes = corpus[random() % corpus.size()];
    if (random() % 16 == 0)
    {
      bytes.resize(64 + random() % 2000);
      for (uint8_t & b : bytes) b = static_cast<uint8_t>(random());
    }
    else
    {
      change(bytes, random);
    }
    if (keeps) remember(bytes);
    LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  }
  std::printf(
    "%llu runs, seed %llu\n", static_cast<unsigned long long>(runs),
    static_cast<unsigned long long>(seed));
  return 0;
}
