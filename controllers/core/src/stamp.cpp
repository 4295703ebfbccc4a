// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_core/stamp.hpp"

#include <array>
#include <cstddef>
#include <cstring>

namespace vla_ros_core
{

namespace
{

constexpr uint32_t kPolynomial = 0xedb88320;  // CRC-32 of zlib, PNG and Ethernet, reflected
constexpr size_t kTables = 4;                 // four bytes at a time
using Tables = std::array<std::array<uint32_t, 256>, kTables>;

constexpr Tables make_tables()
{
  Tables t{};
  for (uint32_t i = 0; i < 256; ++i)
  {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? crc >> 1 ^ kPolynomial : crc >> 1;
    t[0][i] = crc;
  }
  for (size_t k = 1; k < kTables; ++k)
  {
    for (size_t i = 0; i < 256; ++i) t[k][i] = t[k - 1][i] >> 8 ^ t[0][t[k - 1][i] & 0xff];
  }
  return t;
}

constexpr Tables kTable = make_tables();
constexpr size_t kSealedBytes = offsetof(LatencyStamp, crc32);
static_assert(kSealedBytes % 4 == 0);

}  // namespace

uint32_t stamp_checksum(const LatencyStamp & stamp) noexcept
{
  const auto * bytes = reinterpret_cast<const unsigned char *>(&stamp);
  uint32_t crc = 0xffffffff;
  for (size_t at = 0; at < kSealedBytes; at += 4)
  {
    uint32_t word = 0;
    std::memcpy(&word, bytes + at, 4);
    crc ^= word;
    crc = kTable[3][crc & 0xff] ^ kTable[2][crc >> 8 & 0xff] ^ kTable[1][crc >> 16 & 0xff] ^
          kTable[0][crc >> 24];
  }
  return ~crc;
}

}  // namespace vla_ros_core
