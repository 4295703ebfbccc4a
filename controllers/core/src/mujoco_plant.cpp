// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_core/mujoco_plant.hpp"

#include <dlfcn.h>
#include <mujoco/mujoco.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <optional>

#include "vla_ros_core/error.hpp"

namespace vla_ros_core
{

namespace
{

/// The few functions of MuJoCo that the loop needs, looked up in a library given by path.
struct MujocoApi
{
  void * handle = nullptr;
  decltype(&::mj_version) version = nullptr;
  decltype(&::mj_loadModel) load_model = nullptr;
  decltype(&::mj_deleteModel) delete_model = nullptr;
  decltype(&::mj_makeData) make_data = nullptr;
  decltype(&::mj_deleteData) delete_data = nullptr;
  decltype(&::mj_step) step = nullptr;
  decltype(&::mj_forward) forward = nullptr;
  decltype(&::mj_resetData) reset_data = nullptr;
  decltype(&::mj_name2id) name_to_id = nullptr;

  explicit MujocoApi(const std::string & path)
  {
    handle = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle == nullptr) throw Error("cannot load MuJoCo: " + std::string(dlerror()));
    find(version, "mj_version");
    find(load_model, "mj_loadModel");
    find(delete_model, "mj_deleteModel");
    find(make_data, "mj_makeData");
    find(delete_data, "mj_deleteData");
    find(step, "mj_step");
    find(forward, "mj_forward");
    find(reset_data, "mj_resetData");
    find(name_to_id, "mj_name2id");
    if (version() != mjVERSION_HEADER)
    {
      throw Error(
        "MuJoCo library has version " + std::to_string(version()) +
        ", vla_ros_core was built for " + std::to_string(mjVERSION_HEADER) + ": build it again");
    }
  }

  template <typename F>
  void find(F & function, const char * name)
  {
    function = reinterpret_cast<F>(dlsym(handle, name));
    if (function == nullptr) throw Error(std::string("MuJoCo library lacks ") + name);
  }
};

struct SnapshotHeader
{
  uint64_t seq;
  int64_t tick_ns;
  uint32_t nq;
  uint32_t nv;
  uint32_t scene_epoch;
  uint32_t padding;
};

}  // namespace

struct MujocoPlant::Impl
{
  MujocoApi api;
  MujocoPlantConfig config;
  mjModel * model = nullptr;
  mjData * data = nullptr;
  std::vector<int> qpos_address;
  std::vector<int> dof_address;
  std::vector<int> actuator;
  std::vector<int> gripper_address;
  int gripper_actuator = -1;
  std::optional<ShmRing> ring;
  std::vector<std::byte> snapshot;

  explicit Impl(const MujocoPlantConfig & c) : api(c.library_path), config(c) {}
  ~Impl()
  {
    if (data != nullptr) api.delete_data(data);
    if (model != nullptr) api.delete_model(model);
  }

  int id(mjtObj type, const std::string & name, const char * what) const
  {
    const int found = api.name_to_id(model, type, name.c_str());
    if (found < 0) throw Error(std::string(what) + " '" + name + "' is not in the MuJoCo model");
    return found;
  }
};

MujocoPlant::MujocoPlant(const MujocoPlantConfig & config) : impl_(std::make_unique<Impl>(config))
{
  Impl & m = *impl_;
  if (
    config.joint_names.empty() || config.joint_names.size() > kMaxJoints ||
    config.joint_names.size() != config.actuator_names.size())
  {
    throw Error(
      "the plant needs 1 to " + std::to_string(kMaxJoints) +
      " joints and one motor for each, got " + std::to_string(config.joint_names.size()) +
      " joints and " + std::to_string(config.actuator_names.size()) + " motors");
  }
  m.model = m.api.load_model(config.model_path.c_str(), nullptr);
  if (m.model == nullptr) throw Error("cannot load the MuJoCo model " + config.model_path);
  m.data = m.api.make_data(m.model);
  if (m.data == nullptr) throw Error("MuJoCo could not allocate its data");
  for (const std::string & name : config.joint_names)
  {
    const int joint = m.id(mjOBJ_JOINT, name, "joint");
    m.qpos_address.push_back(m.model->jnt_qposadr[joint]);
    m.dof_address.push_back(m.model->jnt_dofadr[joint]);
  }
  for (const std::string & name : config.actuator_names)
  {
    m.actuator.push_back(m.id(mjOBJ_ACTUATOR, name, "actuator"));
  }
  for (const std::string & name : config.gripper_joint_names)
  {
    m.gripper_address.push_back(m.model->jnt_qposadr[m.id(mjOBJ_JOINT, name, "joint")]);
  }
  if (!config.gripper_actuator.empty())
  {
    m.gripper_actuator = m.id(mjOBJ_ACTUATOR, config.gripper_actuator, "actuator");
  }
  m.snapshot.resize(
    sizeof(SnapshotHeader) + sizeof(double) * static_cast<size_t>(m.model->nq + m.model->nv));
  if (!config.snapshot_ring.empty())
  {
    m.ring.emplace(ShmRing::create(config.snapshot_ring, 64, m.snapshot.size(), 0));
  }
  m.api.forward(m.model, m.data);
}

MujocoPlant::~MujocoPlant() = default;

int MujocoPlant::n_joints() const noexcept
{
  return static_cast<int>(impl_->config.joint_names.size());
}

void MujocoPlant::read(Measurement & measurement) noexcept
{
  const Impl & m = *impl_;
  measurement.q.resize(n_joints());
  measurement.dq.resize(n_joints());
  for (int i = 0; i < n_joints(); ++i)
  {
    measurement.q[i] = m.data->qpos[m.qpos_address[static_cast<size_t>(i)]];
    measurement.dq[i] = m.data->qvel[m.dof_address[static_cast<size_t>(i)]];
  }
  measurement.gripper_width_m = 0.0;
  for (int address : m.gripper_address) measurement.gripper_width_m += m.data->qpos[address];
}

void MujocoPlant::write(const JointVector & tau, double gripper_width_m) noexcept
{
  Impl & m = *impl_;
  for (int i = 0; i < n_joints(); ++i)
  {
    m.data->ctrl[m.actuator[static_cast<size_t>(i)]] = tau[i];
  }
  if (m.gripper_actuator < 0) return;
  const double width = std::clamp(gripper_width_m, 0.0, m.config.gripper_max_width_m);
  m.data->ctrl[m.gripper_actuator] = width * m.config.gripper_ctrl_per_m;
}

void MujocoPlant::publish(uint64_t seq, int64_t tick_ns) noexcept
{
  Impl & m = *impl_;
  if (!m.ring) return;
  const SnapshotHeader header{
    seq,          tick_ns, static_cast<uint32_t>(m.model->nq), static_cast<uint32_t>(m.model->nv),
    scene_epoch_, 0};
  std::memcpy(m.snapshot.data(), &header, sizeof(header));
  std::byte * values = m.snapshot.data() + sizeof(header);
  const size_t nq = static_cast<size_t>(m.model->nq) * sizeof(double);
  std::memcpy(values, m.data->qpos, nq);
  std::memcpy(values + nq, m.data->qvel, static_cast<size_t>(m.model->nv) * sizeof(double));
  LatencyStamp stamp{};
  stamp.magic = kStampMagic;
  stamp.version = kStampVersion;
  stamp.seq = seq;
  stamp.capture_oldest_ns = stamp.capture_newest_ns = stamp.state_ns = tick_ns;
  m.ring->write(stamp, m.snapshot.data(), m.snapshot.size());
}

void MujocoPlant::advance() noexcept { impl_->api.step(impl_->model, impl_->data); }

bool MujocoPlant::apply_reset() noexcept
{
  // try_lock: the loop never waits for whoever asks for a reset.
  std::unique_lock lock(reset_mutex_, std::try_to_lock);
  if (!lock.owns_lock() || !reset_requested_) return false;
  reset_requested_ = false;
  Impl & m = *impl_;
  m.api.reset_data(m.model, m.data);
  std::copy(reset_qpos_.begin(), reset_qpos_.end(), m.data->qpos);
  m.api.forward(m.model, m.data);
  ++scene_epoch_;
  return true;
}

void MujocoPlant::request_reset(const std::vector<double> & qpos)
{
  if (static_cast<int64_t>(qpos.size()) != static_cast<int64_t>(impl_->model->nq))
  {
    throw Error(
      "qpos needs " + std::to_string(impl_->model->nq) + " values, got " +
      std::to_string(qpos.size()));
  }
  for (double value : qpos)
  {
    if (!std::isfinite(value)) throw Error("qpos must be finite");
  }
  const std::lock_guard lock(reset_mutex_);
  reset_qpos_ = qpos;
  reset_requested_ = true;
}

double MujocoPlant::timestep_s() const noexcept { return impl_->model->opt.timestep; }

void MujocoPlant::set_external_force(const std::string & body, const std::vector<double> & force)
{
  if (force.size() != 6) throw Error("force needs 6 values (force, torque)");
  const int id = impl_->id(mjOBJ_BODY, body, "body");
  std::copy(force.begin(), force.end(), impl_->data->xfrc_applied + 6 * id);
}

std::vector<double> MujocoPlant::qpos() const
{
  return {impl_->data->qpos, impl_->data->qpos + impl_->model->nq};
}

std::vector<double> MujocoPlant::qvel() const
{
  return {impl_->data->qvel, impl_->data->qvel + impl_->model->nv};
}

std::vector<double> MujocoPlant::bias_force() const
{
  std::vector<double> bias;
  for (int address : impl_->dof_address) bias.push_back(impl_->data->qfrc_bias[address]);
  return bias;
}

}  // namespace vla_ros_core
