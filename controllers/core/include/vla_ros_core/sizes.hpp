// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace vla_ros_core
{

inline constexpr int kMaxJoints = 16;
inline constexpr int kMaxRows = 64;
inline constexpr int kNameLength = 32;

}  // namespace vla_ros_core
