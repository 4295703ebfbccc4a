// SPDX-License-Identifier: Apache-2.0
#include "rendition.hpp"

#include <Eigen/SVD>
#include <algorithm>
#include <cmath>
#include <pinocchio/algorithm/aba.hpp>
#include <pinocchio/algorithm/crba.hpp>
#include <pinocchio/algorithm/frames.hpp>
#include <pinocchio/algorithm/jacobian.hpp>
#include <pinocchio/algorithm/joint-configuration.hpp>
#include <pinocchio/algorithm/model.hpp>
#include <pinocchio/algorithm/rnea.hpp>
#include <pinocchio/multibody/data.hpp>
#include <pinocchio/multibody/model.hpp>
#include <pinocchio/parsers/urdf.hpp>
#include <pinocchio/spatial/explog.hpp>
#include <stdexcept>

namespace vla_ros_bench
{

namespace
{

pinocchio::Model load(
  const std::string & urdf_xml, const std::vector<std::string> & joint_names,
  const std::vector<double> & armature)
{
  pinocchio::Model full;
  pinocchio::urdf::buildModelFromXML(urdf_xml, full);
  std::vector<pinocchio::JointIndex> locked;
  for (pinocchio::JointIndex i = 1; i < static_cast<pinocchio::JointIndex>(full.njoints); ++i)
  {
    const auto found = std::find(joint_names.begin(), joint_names.end(), full.names[i]);
    if (found == joint_names.end()) locked.push_back(i);
  }
  pinocchio::Model model = pinocchio::buildReducedModel(full, locked, pinocchio::neutral(full));
  if (model.nv != static_cast<int>(joint_names.size())) throw std::invalid_argument("joint_names");
  for (size_t i = 0; i < armature.size(); ++i)
  {
    model.armature[static_cast<Eigen::Index>(i)] = armature[i];
  }
  return model;
}

/// First-order filter, `keep` of the old value.
void filter(Eigen::VectorXd & value, const Eigen::VectorXd & wanted, double keep)
{
  value = (1.0 - keep) * wanted + keep * value;
}

Eigen::VectorXd or_critical(const Eigen::VectorXd & damping, const Eigen::VectorXd & stiffness)
{
  return (damping.array() > 0.0).select(damping.array(), 2.0 * stiffness.array().sqrt());
}

}  // namespace

Eigen::MatrixXd damped_pseudo_inverse(const Eigen::MatrixXd & matrix, double epsilon)
{
  const Eigen::JacobiSVD<Eigen::MatrixXd> svd(matrix, Eigen::ComputeThinU | Eigen::ComputeThinV);
  const Eigen::VectorXd & s = svd.singularValues();
  const Eigen::VectorXd inverse = s.array() / (s.array().square() + epsilon * epsilon);
  return svd.matrixV() * inverse.asDiagonal() * svd.matrixU().transpose();
}

RenditionConfig RenditionConfig::for_joints(int n_joints)
{
  RenditionConfig c;
  c.stiffness.resize(6);
  c.stiffness << 500.0, 500.0, 500.0, 30.0, 30.0, 30.0;
  c.damping = Eigen::VectorXd::Constant(6, -1.0);
  c.error_clip.resize(6);
  c.error_clip << 0.1, 0.1, 0.1, 0.5, 0.5, 0.5;
  c.nullspace_stiffness = Eigen::VectorXd::Ones(n_joints);
  c.friction_a = c.friction_b = c.friction_c = Eigen::VectorXd::Zero(n_joints);
  return c;
}

struct Rendition::Impl
{
  RenditionConfig config;
  pinocchio::Model model;
  pinocchio::Data data;
  pinocchio::FrameIndex ee;
  Eigen::VectorXd damping;
  Eigen::VectorXd nullspace_damping;
  // Filtered signals.
  Eigen::VectorXd q, dq, posture, tau;
  Eigen::Vector3d position;
  Eigen::Matrix3d rotation;
  bool is_first = true;
  // Storage that is written anew at every tick.
  Eigen::MatrixXd jacobian, inverse_mass, inertia, projector;
  Eigen::VectorXd error, tau_task, tau_null, tau_extra;

  Impl(pinocchio::Model m, const std::string & ee_frame, const RenditionConfig & c)
  : config(c), model(std::move(m)), data(model), ee(model.getFrameId(ee_frame))
  {
    const Eigen::Index n = model.nv;
    damping = or_critical(config.damping, config.stiffness);
    nullspace_damping = or_critical(
      Eigen::VectorXd::Constant(n, config.nullspace_damping), config.nullspace_stiffness);
    jacobian.setZero(6, n);
    inverse_mass.setZero(n, n);
    inertia.setZero(6, 6);
    projector.setZero(n, n);
    error.setZero(6);
    q = dq = posture = tau = tau_task = tau_null = tau_extra = Eigen::VectorXd::Zero(n);
  }

  void take(const RenditionInput & in)
  {
    filter(q, in.q, is_first ? 0.0 : config.filter_q);
    filter(dq, in.dq, is_first ? 0.0 : config.filter_dq);
    filter(posture, in.posture, is_first ? 0.0 : config.filter_posture);
    const Eigen::Matrix3d wanted = in.rotation.toRotationMatrix();
    if (is_first)
    {
      position = in.position;
      rotation = wanted;
    }
    const double keep = config.filter_target;
    position = (1.0 - keep) * in.position + keep * position;
    const Eigen::Vector3d behind = pinocchio::log3(Eigen::Matrix3d(wanted.transpose() * rotation));
    rotation = wanted * pinocchio::exp3(Eigen::Vector3d(keep * behind));
    is_first = false;
  }

  void update_kinematics()
  {
    pinocchio::computeJointJacobians(model, data, q);
    pinocchio::updateFramePlacement(model, data, ee);
    jacobian.setZero();
    const auto axes = config.end_effector_axes ? pinocchio::LOCAL : pinocchio::LOCAL_WORLD_ALIGNED;
    pinocchio::getFrameJacobian(model, data, ee, axes, jacobian);
    const bool needs_inertia =
      config.operational_space || config.projection == Projection::kDynamic;
    if (!needs_inertia) return;
    pinocchio::computeMinverse(model, data, q);
    inverse_mass = data.Minv.selfadjointView<Eigen::Upper>();
    inertia = damped_pseudo_inverse(
      jacobian * inverse_mass * jacobian.transpose(), config.operational_regularisation);
  }

  void update_task()
  {
    const pinocchio::SE3 & at = data.oMf[ee];
    if (config.end_effector_axes)
    {
      error.head(3) = at.rotation().transpose() * (position - at.translation());
      error.tail(3) = pinocchio::log3(Eigen::Matrix3d(at.rotation().transpose() * rotation));
    }
    else
    {
      error.head(3) = position - at.translation();
      error.tail(3) = pinocchio::log3(Eigen::Matrix3d(rotation * at.rotation().transpose()));
    }
    if (config.limit_error)
    {
      error = error.cwiseMin(config.error_clip).cwiseMax(-config.error_clip).eval();
    }
    const Eigen::VectorXd wrench =
      config.stiffness.cwiseProduct(error) - damping.cwiseProduct(jacobian * dq);
    if (config.operational_space)
    {
      tau_task = jacobian.transpose() * (inertia * wrench);
    }
    else
    {
      tau_task = jacobian.transpose() * wrench;
    }
  }

  void update_projector()
  {
    projector.setIdentity();
    if (config.projection == Projection::kKinematic)
    {
      projector -= damped_pseudo_inverse(jacobian, config.nullspace_regularisation) * jacobian;
    }
    else if (config.projection == Projection::kDynamic)
    {
      projector -= jacobian.transpose() * (inertia * jacobian * inverse_mass);
    }
  }

  void update_nullspace(const RenditionInput & in)
  {
    update_projector();
    const Eigen::VectorXd pull = config.nullspace_stiffness.cwiseProduct(posture - q) +
                                 nullspace_damping.cwiseProduct(in.posture_rate - dq);
    const double limit = config.nullspace_torque_limit_nm;
    tau_null = (projector * pull).cwiseMin(limit).cwiseMax(-limit);
  }

  void update_extra(const RenditionInput & in)
  {
    tau_extra = jacobian.transpose() * in.wrench;
    if (config.friction)
    {
      const auto a = config.friction_a.array();
      const auto b = config.friction_b.array();
      const auto c = config.friction_c.array();
      tau_extra.array() += a / (1.0 + (-b * (dq.array() + c)).exp()) - a / (1.0 + (-b * c).exp());
    }
    if (config.coriolis)
    {
      tau_extra += pinocchio::computeCoriolisMatrix(model, data, q, dq) * dq;
    }
    if (config.gravity) tau_extra += pinocchio::computeGeneralizedGravity(model, data, q);
    for (Eigen::Index i = 0; i < q.size(); ++i)
    {
      const double range = config.limit_range_rad;
      const double into_low = range - (q[i] - model.lowerPositionLimit[i]);
      const double into_high = range - (model.upperPositionLimit[i] - q[i]);
      if (into_low > 0.0) tau_extra[i] += config.limit_torque_nm * std::min(1.0, into_low / range);
      if (into_high > 0.0)
      {
        tau_extra[i] -= config.limit_torque_nm * std::min(1.0, into_high / range);
      }
    }
  }

  void limit_and_filter()
  {
    Eigen::VectorXd wanted = tau_task + tau_null + tau_extra;
    if (config.limit_torque_rate)
    {
      const double step = config.torque_step_nm;
      wanted = tau + (wanted - tau).cwiseMin(step).cwiseMax(-step);
    }
    filter(tau, wanted, config.filter_torque);
  }
};

Rendition::Rendition(
  const std::string & urdf_xml, const std::vector<std::string> & joint_names,
  const std::string & ee_frame, const std::vector<double> & armature,
  const RenditionConfig & config)
: impl_(std::make_unique<Impl>(load(urdf_xml, joint_names, armature), ee_frame, config))
{
}

Rendition::~Rendition() = default;

const Eigen::VectorXd & Rendition::step(const RenditionInput & input)
{
  Impl & m = *impl_;
  m.take(input);
  m.update_kinematics();
  if (!m.data.oMf[m.ee].translation().allFinite()) return m.tau;
  m.update_task();
  m.update_nullspace(input);
  m.update_extra(input);
  m.limit_and_filter();
  return m.tau;
}

void Rendition::reset(const Eigen::VectorXd & tau)
{
  impl_->tau = tau;
  impl_->is_first = true;
}

}  // namespace vla_ros_bench
