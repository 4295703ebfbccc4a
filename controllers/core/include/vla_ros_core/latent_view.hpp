// SPDX-License-Identifier: Apache-2.0
// Named tensors in the payload of a latent, read in place; the byte table is docs/latent-buffer.md.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace vla_ros_core
{

/// Type codes of tensors, in the order of vla_ros/latency/codec.py.
enum class TensorType : uint8_t
{
  kFloat32,
  kFloat64,
  kFloat16,
  kInt64,
  kInt32,
  kUint8,
  kBool,
  kInt8,
  kInt16,
  kUint16,
  kUint32,
  kUint64,
  kCount
};

inline constexpr uint64_t kTensorTypeBytes[] = {4, 8, 2, 8, 4, 1, 1, 1, 2, 2, 4, 8};
static_assert(sizeof(kTensorTypeBytes) / 8 == static_cast<size_t>(TensorType::kCount));

/// One tensor where it lies, in C order; `data` is aligned to 64 bytes within an aligned payload.
struct TensorView
{
  TensorType type = TensorType::kFloat32;
  uint8_t n_dims = 0;
  uint32_t shape[8] = {};
  uint64_t bytes = 0;
  const std::byte * data = nullptr;
};

/// Find a tensor by name; false if there is none or the bytes are not tensors.
///
/// Every number is copied once, checked, and only then used: the bytes may lie in a ring slot that
/// is being overwritten, and must not lead out of it. What was found counts only if
/// ShmRing::is_intact() holds afterwards. Real-time: bounded, no allocation, noexcept.
inline bool find_tensor(
  const std::byte * payload, uint64_t bytes, std::string_view name, TensorView & found) noexcept
{
  constexpr uint32_t kMagic = 0x32434c56;  // "VLC2"
  constexpr uint64_t kHead = 16;
  constexpr uint64_t kEntry = 16;
  constexpr uint32_t kMaxTensors = 64;
  const auto load = [payload](uint64_t at, auto & value)
  { std::memcpy(&value, payload + at, sizeof(value)); };
  uint32_t magic = 0;
  uint32_t count = 0;
  uint64_t total = 0;
  if (bytes < kHead) return false;
  load(0, magic);
  load(4, count);
  load(8, total);
  if (magic != kMagic || count > kMaxTensors || total > bytes) return false;
  uint64_t at = kHead;
  for (uint32_t i = 0; i < count; ++i)
  {
    uint16_t name_bytes = 0;
    uint8_t type = 0;
    TensorView t;
    uint64_t offset = 0;
    if (at + kEntry > total) return false;
    load(at, name_bytes);
    load(at + 2, type);
    load(at + 3, t.n_dims);
    load(at + 8, offset);
    at += kEntry;
    if (t.n_dims > 8 || type >= static_cast<uint8_t>(TensorType::kCount)) return false;
    if (at + 4 * t.n_dims + name_bytes > total) return false;
    uint64_t room = total;  // bytes that the shape may still multiply to
    t.type = static_cast<TensorType>(type);
    t.bytes = kTensorTypeBytes[type];
    for (uint8_t d = 0; d < t.n_dims; ++d, at += 4)
    {
      load(at, t.shape[d]);
      if (t.shape[d] != 0 && t.bytes > room / t.shape[d]) return false;
      t.bytes *= t.shape[d];
    }
    const bool is_it =
      name.size() == name_bytes && std::memcmp(payload + at, name.data(), name_bytes) == 0;
    at += name_bytes;
    at += (8 - at % 8) % 8;
    if (!is_it) continue;
    if (offset % 64 != 0 || offset > total || t.bytes > total - offset) return false;
    t.data = payload + offset;
    found = t;
    return true;
  }
  return false;
}

}  // namespace vla_ros_core
