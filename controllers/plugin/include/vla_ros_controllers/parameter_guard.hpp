// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <functional>
#include <memory>
#include <rcl_interfaces/msg/set_parameters_result.hpp>
#include <rclcpp_lifecycle/lifecycle_node.hpp>
#include <string>
#include <utility>
#include <vector>

namespace vla_ros_controllers
{

/// Lets parameters change only together with what is made of them: the change is made, `apply` is
/// asked, and if it throws, everything is put back and the answer to the request is the reason.
///
/// `Listener` is a listener of generate_parameter_library. Made before it, so that the ranges of
/// single parameters are checked first.
template <typename Listener>
class ParameterGuard
{
public:
  /// Throws if not refused: std::exception with the reason. Runs outside the control loop.
  using Apply = std::function<void()>;

  explicit ParameterGuard(const rclcpp_lifecycle::LifecycleNode::SharedPtr & node)
  : node_(node.get())
  {
    handle_ = node->add_on_set_parameters_callback(
      [this](const std::vector<rclcpp::Parameter> & changes) { return on_change(changes); });
    listener_ = std::make_shared<Listener>(node);
  }

  Listener & listener() noexcept { return *listener_; }

  /// Ask `apply` at every change from now on.
  void set_apply(Apply apply) { apply_ = std::move(apply); }

private:
  rcl_interfaces::msg::SetParametersResult on_change(const std::vector<rclcpp::Parameter> & changes)
  {
    rcl_interfaces::msg::SetParametersResult result;
    result.successful = true;
    // While parameters are being declared there is nothing to apply them to.
    if (!listener_ || !apply_) return result;
    result = listener_->update(changes);
    if (!result.successful) return result;
    try
    {
      apply_();
    }
    catch (const std::exception & error)
    {
      result.successful = false;
      result.reason = error.what();
      listener_->update(present_values(changes));
    }
    return result;
  }

  /// What the node holds for the parameters that were to change.
  std::vector<rclcpp::Parameter> present_values(const std::vector<rclcpp::Parameter> & changes)
  {
    std::vector<rclcpp::Parameter> values;
    for (const rclcpp::Parameter & change : changes)
    {
      rclcpp::Parameter present;
      if (node_->get_parameter(change.get_name(), present)) values.push_back(present);
    }
    return values;
  }

  rclcpp_lifecycle::LifecycleNode * node_;
  Apply apply_;
  std::shared_ptr<Listener> listener_;
  rclcpp_lifecycle::LifecycleNode::OnSetParametersCallbackHandle::SharedPtr handle_;
};

}  // namespace vla_ros_controllers
