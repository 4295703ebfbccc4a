// SPDX-License-Identifier: Apache-2.0
// What differs between the releases of ros2_control from Humble to Lyrical. Differences are told
// from what a type can do, not from version numbers, because fixes are ported between releases.
#pragma once

#include <limits>
#include <string>
#include <type_traits>
#include <utility>

namespace vla_ros_controllers::compat
{

template <typename Interface, typename = void>
struct HasOptional : std::false_type
{
};
template <typename Interface>
struct HasOptional<
  Interface, std::void_t<decltype(std::declval<const Interface &>().get_optional())>>
: std::true_type
{
};

/// Value of a loaned interface; NaN if it has none or is being written at this moment.
template <typename Interface>
double read(const Interface & interface)
{
  if constexpr (HasOptional<Interface>::value)
  {
    return interface.get_optional().value_or(std::numeric_limits<double>::quiet_NaN());
  }
  else
  {
    return interface.get_value();
  }
}

/// Set a loaned command interface; false if it was refused.
template <typename Interface>
bool write(Interface & interface, double value)
{
  if constexpr (std::is_void_v<decltype(interface.set_value(value))>)
  {
    interface.set_value(value);
    return true;
  }
  else
  {
    return interface.set_value(value);
  }
}

template <typename Controller, typename = void>
struct HasDescription : std::false_type
{
};
template <typename Controller>
struct HasDescription<
  Controller, std::void_t<decltype(std::declval<const Controller &>().get_robot_description())>>
: std::true_type
{
};

/// Robot description that the controller manager hands to its controllers; empty before Jazzy.
template <typename Controller>
std::string description_of(const Controller & controller)
{
  if constexpr (HasDescription<Controller>::value)
  {
    return controller.get_robot_description();
  }
  else
  {
    static_cast<void>(controller);
    return {};
  }
}

}  // namespace vla_ros_controllers::compat
