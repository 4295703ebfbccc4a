// SPDX-License-Identifier: Apache-2.0
// Drives one controller plugin without a controller manager: moving joints in, commands out,
// every allocation inside update() counted. Prints one JSON line per tick, then a summary.
//   plugin_rig <type> <name> <urdf file> <ticks> [<first lost> <how many>] --ros-args
//     --params-file <file>
// In lost ticks one joint position is not a number.
#include <algorithm>
#include <cctype>
#include <chrono>
#include <cmath>
#include <controller_interface/controller_interface.hpp>
#include <controller_interface/controller_interface_params.hpp>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <limits>
#include <pluginlib/class_loader.hpp>
#include <random>
#include <rclcpp/rclcpp.hpp>
#include <sstream>

namespace
{

thread_local bool counts_allocations = false;
thread_local unsigned long allocations = 0;

}  // namespace

extern "C" void * __libc_malloc(size_t size);
extern "C" void * __libc_calloc(size_t count, size_t size);
extern "C" void * __libc_realloc(void * place, size_t size);

extern "C" void * malloc(size_t size)
{
  if (counts_allocations) ++allocations;
  return __libc_malloc(size);
}

extern "C" void * calloc(size_t count, size_t size)
{
  if (counts_allocations) ++allocations;
  return __libc_calloc(count, size);
}

extern "C" void * realloc(void * place, size_t size)
{
  if (counts_allocations) ++allocations;
  return __libc_realloc(place, size);
}

namespace
{

using controller_interface::ControllerInterface;
using hardware_interface::CommandInterface;
using hardware_interface::StateInterface;

constexpr double kPeriod_s = 1e-3;

/// Interfaces of a robot that does nothing.
struct FakeHardware
{
  std::vector<StateInterface::SharedPtr> states;
  std::vector<CommandInterface::SharedPtr> commands;

  template <typename Interface>
  static std::shared_ptr<Interface> make(const std::string & full_name)
  {
    const size_t slash = full_name.rfind('/');
    hardware_interface::InterfaceInfo info;
    info.name = full_name.substr(slash + 1);
    info.data_type = "double";
    return std::make_shared<Interface>(
      hardware_interface::InterfaceDescription(full_name.substr(0, slash), info));
  }

  void connect(ControllerInterface & controller)
  {
    std::vector<hardware_interface::LoanedStateInterface> loaned_states;
    std::vector<hardware_interface::LoanedCommandInterface> loaned_commands;
    for (const std::string & name : controller.state_interface_configuration().names)
    {
      states.push_back(make<StateInterface>(name));
      loaned_states.emplace_back(states.back(), [] {});
    }
    for (const std::string & name : controller.command_interface_configuration().names)
    {
      commands.push_back(make<CommandInterface>(name));
      loaned_commands.emplace_back(commands.back(), [] {});
    }
    controller.assign_interfaces(std::move(loaned_commands), std::move(loaned_states));
  }

  template <typename Interfaces>
  static std::vector<double> values(const Interfaces & interfaces, size_t first, size_t count)
  {
    std::vector<double> result;
    for (size_t i = first; i < first + count; ++i)
    {
      result.push_back(interfaces[i]->get_optional().value());
    }
    return result;
  }
};

std::string read_file(const char * path)
{
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void print(const char * name, const std::vector<double> & values, const char * end)
{
  std::printf("\"%s\": [", name);
  for (size_t i = 0; i < values.size(); ++i)
  {
    std::printf("%s", i == 0 ? "" : ", ");
    if (std::isnan(values[i]))
    {
      std::printf("NaN");
    }
    else
    {
      std::printf("%.17g", values[i]);
    }
  }
  std::printf("]%s", end);
}

/// A posture with bent elbow, of an arm with six or seven joints.
std::vector<double> start_of(size_t n_joints)
{
  if (n_joints == 6) return {0.0, -1.571, 1.571, -1.571, -1.571, 0.0};
  return {0.0, -0.785, 0.0, -2.356, 0.0, 1.571, 0.785};
}

/// A smooth motion about a start: joints that swing, each with a frequency of its own.
void set_motion(FakeHardware & robot, const std::vector<double> & start, double time_s)
{
  const size_t n = start.size();
  for (size_t i = 0; i < n; ++i)
  {
    const double omega = 1.0 + 0.7 * static_cast<double>(i);
    const bool is_set = robot.states[i]->set_value(start[i] + 0.1 * std::sin(omega * time_s)) &&
                        robot.states[n + i]->set_value(0.1 * omega * std::cos(omega * time_s));
    if (!is_set) std::abort();
  }
}

void lose_measurement(FakeHardware & robot)
{
  if (!robot.states[2]->set_value(std::numeric_limits<double>::quiet_NaN())) std::abort();
}

int run(int argc, char ** argv)
{
  if (argc < 5) return 2;
  const int ticks = std::atoi(argv[4]);
  const bool loses = argc > 6 && std::isdigit(argv[5][0]) != 0;
  const int first_lost = loses ? std::atoi(argv[5]) : ticks;
  const int end_of_loss = loses ? first_lost + std::atoi(argv[6]) : ticks;
  pluginlib::ClassLoader<ControllerInterface> loader(
    "controller_interface", "controller_interface::ControllerInterface");
  const auto controller = loader.createSharedInstance(argv[1]);
  controller_interface::ControllerInterfaceParams params;
  params.controller_name = argv[2];
  params.robot_description = read_file(argv[3]);
  params.update_rate = params.controller_manager_update_rate = 1000;
  params.node_options = controller->define_custom_node_options();
  if (controller->init(params) != controller_interface::return_type::OK) return 3;
  if (controller->configure().label() != "inactive") return 4;
  FakeHardware robot;
  robot.connect(*controller);
  const std::vector<double> start = start_of(robot.commands.size());
  set_motion(robot, start, 0.0);
  // Activation may allocate: that it is seen to shows that the counting works.
  counts_allocations = true;
  const bool is_active = controller->get_node()->activate().label() == "active";
  counts_allocations = false;
  if (!is_active) return 5;
  const unsigned long before = allocations;
  std::vector<double> micros;
  const auto period = rclcpp::Duration::from_seconds(kPeriod_s);
  for (int tick = 0; tick < ticks; ++tick)
  {
    set_motion(robot, start, kPeriod_s * tick);
    if (tick >= first_lost && tick < end_of_loss) lose_measurement(robot);
    const rclcpp::Time now(static_cast<int64_t>(1e9 * kPeriod_s * tick), RCL_STEADY_TIME);
    const auto began = std::chrono::steady_clock::now();
    counts_allocations = true;
    controller->update(now, period);
    counts_allocations = false;
    const std::chrono::duration<double, std::micro> took = std::chrono::steady_clock::now() - began;
    micros.push_back(took.count());
    std::printf("{");
    print("q", FakeHardware::values(robot.states, 0, start.size()), ", ");
    print("dq", FakeHardware::values(robot.states, start.size(), start.size()), ", ");
    print("command", FakeHardware::values(robot.commands, 0, start.size()), "}\n");
  }
  std::sort(micros.begin(), micros.end());
  std::printf(
    "{\"allocations\": %lu, \"before\": %lu, \"p50_us\": %.2f, \"p99_us\": %.2f}\n",
    allocations - before, before, micros[micros.size() / 2], micros[micros.size() * 99 / 100]);
  controller->get_node()->deactivate();
  return 0;
}

}  // namespace

int main(int argc, char ** argv)
{
  rclcpp::init(argc, argv);
  const int result = run(argc, argv);
  rclcpp::shutdown();
  return result;
}
