// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <mutex>

namespace vla_ros_controllers
{

/// Keeps callbacks of a node out of an object that is being destroyed: the executor may run them in
/// another thread and holds on to them. The owner is the last member of the object, so that it goes
/// first; it waits for a callback that is under way.
class CallbackGate
{
public:
  /// What a callback holds on to.
  class Pass
  {
  public:
    /// Owns the lock as long as the object lives; else the callback must return at once.
    std::unique_lock<std::mutex> enter()
    {
      std::unique_lock<std::mutex> lock(mutex_);
      if (!is_open_) lock.unlock();
      return lock;
    }

  private:
    friend class CallbackGate;
    std::mutex mutex_;
    bool is_open_ = true;
  };

  CallbackGate() : pass_(std::make_shared<Pass>()) {}
  ~CallbackGate()
  {
    const std::lock_guard<std::mutex> lock(pass_->mutex_);
    pass_->is_open_ = false;
  }
  CallbackGate(const CallbackGate &) = delete;
  CallbackGate & operator=(const CallbackGate &) = delete;

  std::shared_ptr<Pass> pass() const { return pass_; }

private:
  std::shared_ptr<Pass> pass_;
};

}  // namespace vla_ros_controllers
