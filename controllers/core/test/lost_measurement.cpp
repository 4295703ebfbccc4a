// SPDX-License-Identifier: Apache-2.0
// A control host on an arm that does not move, whose measurement is spoilt for some ticks and good
// again afterwards. Prints one JSON line per tick. Run by test/unit/test_lost_measurement.py.
//   lost_measurement <prefix> <q or dq> <nan or inf> <first spoilt tick> <how many> <ticks>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>

#include "chain_robot.hpp"
#include "vla_ros_core/control_host.hpp"

namespace
{

using namespace vla_ros_core;

constexpr int kJoints = 7;
constexpr int kPushedTick = 20;
constexpr double kPushed_rad = 0.01;

/// Held 10 mrad beside where it began, so that somebody must be pushing, and said to be creeping.
class HeldArm : public Plant
{
public:
  bool spoils_velocity = false;
  double spoilt = 0.0;
  int first = 0;
  int count = 0;
  int tick = -1;

  int n_joints() const noexcept override { return kJoints; }
  void read(Measurement & m) noexcept override
  {
    m.q = JointVector::LinSpaced(kJoints, 0.2, 0.8);
    m.dq = JointVector::Zero(kJoints);
    if (tick >= kPushedTick) m.q.array() += kPushed_rad;
    if (tick >= first + count) m.dq.setConstant(0.01);
    if (tick >= first && tick < first + count) (spoils_velocity ? m.dq : m.q)[2] = spoilt;
  }
  void write(const JointVector &, double) noexcept override {}
  void publish(uint64_t, int64_t) noexcept override {}
  void advance() noexcept override { ++tick; }
};

void print(const char * name, const double * values, int n, const char * end)
{
  std::printf("\"%s\": [", name);
  for (int i = 0; i < n; ++i) std::printf("%s%.17g", i == 0 ? "" : ", ", values[i]);
  std::printf("]%s", end);
}

}  // namespace

int main(int argc, char ** argv)
{
  if (argc < 7) return 2;
  const auto plant = std::make_shared<HeldArm>();
  plant->spoils_velocity = std::string(argv[2]) == "dq";
  plant->spoilt = std::string(argv[3]) == "nan" ? std::numeric_limits<double>::quiet_NaN()
                                                : std::numeric_limits<double>::infinity();
  plant->first = std::atoi(argv[4]);
  plant->count = std::atoi(argv[5]);
  ControlHostConfig config;
  config.shm_prefix = argv[1];
  for (int i = 1; i <= kJoints; ++i)
    config.plant_joint_names.push_back("joint" + std::to_string(i));
  ArmSetup arm;
  arm.model = test::make_chain(kJoints);
  arm.law = LawConfig::for_joints(kJoints);
  arm.law.torque_limit = JointVector::Constant(kJoints, 80.0);
  arm.law.torque_rate_limit = JointVector::Constant(kJoints, 1000.0);
  arm.names = TargetNames::of_arm(
    *arm.model, "link0", "link" + std::to_string(kJoints), config.plant_joint_names);
  ControlHost host(config, {arm}, plant);
  plant->advance();
  int64_t now_ns = 1'000'000'000;
  for (int i = 0; i < std::atoi(argv[6]); ++i)
  {
    now_ns = host.run_ticks(now_ns, 1);
    const StateRecord state = host.last_state();
    const JointVector bias = arm.model->bias();
    std::printf("{\"mode\": %u, ", state.mode);
    print("tau", state.tau, kJoints, ", ");
    print("bias", bias.data(), kJoints, ", ");
    print("wrench_external", state.wrench_external, 6, ", ");
    print("tau_external", state.tau_external, kJoints, "}\n");
  }
  ShmRing::unlink(config.shm_prefix + ".lease");
  ShmRing::unlink(config.shm_prefix + ".stop");
  ShmRing::unlink(config.shm_prefix + ".state");
  return 0;
}
