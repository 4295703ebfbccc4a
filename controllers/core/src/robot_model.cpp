// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_core/robot_model.hpp"

#include <pinocchio/algorithm/crba.hpp>
#include <pinocchio/algorithm/frames.hpp>
#include <pinocchio/algorithm/jacobian.hpp>
#include <pinocchio/algorithm/kinematics.hpp>
#include <pinocchio/algorithm/model.hpp>
#include <pinocchio/algorithm/rnea.hpp>
#include <pinocchio/multibody/data.hpp>
#include <pinocchio/multibody/model.hpp>
#include <pinocchio/parsers/urdf.hpp>
#include <sstream>

#include "vla_ros_core/error.hpp"

namespace vla_ros_core
{

namespace
{

pinocchio::Model parse_urdf(const std::string & xml)
{
  pinocchio::Model model;
  try
  {
    pinocchio::urdf::buildModelFromXML(xml, model);
  }
  catch (const std::exception & error)
  {
    throw Error(std::string("cannot read the URDF: ") + error.what());
  }
  return model;
}

template <typename Names>
std::string joined(const Names & names)
{
  std::ostringstream text;
  for (size_t i = 0; i < names.size(); ++i) text << (i == 0 ? "" : ", ") << names[i];
  return text.str();
}

/// Lock every joint that is not named.
pinocchio::Model reduce(const pinocchio::Model & full, const std::vector<std::string> & keep)
{
  for (const std::string & name : keep)
  {
    if (!full.existJointName(name))
    {
      throw Error("joint '" + name + "' is not in the URDF, which has " + joined(full.names));
    }
  }
  std::vector<pinocchio::JointIndex> locked;
  for (pinocchio::JointIndex i = 1; i < static_cast<pinocchio::JointIndex>(full.njoints); ++i)
  {
    if (std::find(keep.begin(), keep.end(), full.names[i]) == keep.end()) locked.push_back(i);
  }
  return pinocchio::buildReducedModel(full, locked, pinocchio::neutral(full));
}

}  // namespace

struct RobotModel::Impl
{
  pinocchio::Model model;
  pinocchio::Data data;
  pinocchio::FrameIndex ee = 0;
  pinocchio::FrameIndex base = 0;
  pinocchio::SE3 base_in_world;
  Eigen::VectorXd q;
  Eigen::VectorXd dq;
  Eigen::MatrixXd jacobian;

  explicit Impl(pinocchio::Model m) : model(std::move(m)), data(model)
  {
    q = Eigen::VectorXd::Zero(model.nq);
    dq = Eigen::VectorXd::Zero(model.nv);
    jacobian = Eigen::MatrixXd::Zero(6, model.nv);
  }

  pinocchio::FrameIndex frame(const std::string & name) const
  {
    if (!model.existFrame(name))
    {
      std::vector<std::string> names;
      for (const auto & f : model.frames) names.push_back(f.name);
      throw Error("frame '" + name + "' is not in the URDF, which has " + joined(names));
    }
    return model.getFrameId(name);
  }
};

RobotModel::RobotModel(
  const std::string & urdf_xml, const std::vector<std::string> & joint_names,
  const std::string & base_frame, const std::string & ee_frame,
  const std::vector<double> & armature)
: impl_(std::make_unique<Impl>(reduce(parse_urdf(urdf_xml), joint_names))),
  n_joints_(static_cast<int>(joint_names.size()))
{
  pinocchio::Model & model = impl_->model;
  if (n_joints_ < 1 || n_joints_ > kMaxJoints || model.nq != n_joints_ || model.nv != n_joints_)
  {
    throw Error(
      "an arm needs 1 to " + std::to_string(kMaxJoints) + " one-axis joints with limits, got " +
      joined(joint_names));
  }
  for (int i = 0; i < n_joints_; ++i)
  {
    if (model.names[static_cast<size_t>(i) + 1] != joint_names[static_cast<size_t>(i)])
    {
      throw Error(
        "joints must be listed from base to end effector, expected " +
        model.names[static_cast<size_t>(i) + 1] + " at place " + std::to_string(i));
    }
  }
  if (!armature.empty() && static_cast<int>(armature.size()) != n_joints_)
  {
    throw Error("armature needs one value per joint, got " + std::to_string(armature.size()));
  }
  for (size_t i = 0; i < armature.size(); ++i)
  {
    model.armature[static_cast<Eigen::Index>(i)] = armature[i];
  }
  impl_->ee = impl_->frame(ee_frame);
  impl_->base = impl_->frame(base_frame);
  pinocchio::framesForwardKinematics(model, impl_->data, impl_->q);
  impl_->base_in_world = impl_->data.oMf[impl_->base];
  jacobian_.setZero(6, n_joints_);
  mass_matrix_.setZero(n_joints_, n_joints_);
  gravity_.setZero(n_joints_);
  coriolis_.setZero(n_joints_);
}

RobotModel::~RobotModel() = default;

void RobotModel::update(const JointVector & q, const JointVector & dq) noexcept
{
  pinocchio::Model & model = impl_->model;
  pinocchio::Data & data = impl_->data;
  impl_->q = q;
  impl_->dq = dq;
  pinocchio::computeJointJacobians(model, data, impl_->q);
  pinocchio::updateFramePlacement(model, data, impl_->ee);
  impl_->jacobian.setZero();
  pinocchio::getFrameJacobian(
    model, data, impl_->ee, pinocchio::LOCAL_WORLD_ALIGNED, impl_->jacobian);
  const pinocchio::SE3 & base = impl_->base_in_world;
  const pinocchio::SE3 ee = base.actInv(data.oMf[impl_->ee]);
  ee_pose_.position = ee.translation();
  ee_pose_.rotation = Eigen::Quaterniond(ee.rotation()).normalized();
  jacobian_.topRows<3>().noalias() = base.rotation().transpose() * impl_->jacobian.topRows<3>();
  jacobian_.bottomRows<3>().noalias() =
    base.rotation().transpose() * impl_->jacobian.bottomRows<3>();
  ee_twist_.noalias() = jacobian_ * dq;
  pinocchio::crba(model, data, impl_->q);
  mass_matrix_ = data.M;
  mass_matrix_.triangularView<Eigen::StrictlyLower>() =
    mass_matrix_.transpose().triangularView<Eigen::StrictlyLower>();
  gravity_ = pinocchio::computeGeneralizedGravity(model, data, impl_->q);
  coriolis_ = pinocchio::nonLinearEffects(model, data, impl_->q, impl_->dq) - gravity_;
}

std::vector<std::string> RobotModel::link_names() const
{
  std::vector<std::string> names;
  for (const auto & frame : impl_->model.frames)
  {
    if (frame.type == pinocchio::BODY) names.push_back(frame.name);
  }
  return names;
}

std::vector<Pose> RobotModel::link_poses() const
{
  pinocchio::framesForwardKinematics(impl_->model, impl_->data, impl_->q);
  std::vector<Pose> poses;
  for (size_t i = 0; i < impl_->model.frames.size(); ++i)
  {
    if (impl_->model.frames[i].type != pinocchio::BODY) continue;
    const pinocchio::SE3 placement = impl_->base_in_world.actInv(impl_->data.oMf[i]);
    Pose pose;
    pose.position = placement.translation();
    pose.rotation = Eigen::Quaterniond(placement.rotation()).normalized();
    poses.push_back(pose);
  }
  return poses;
}

}  // namespace vla_ros_core
