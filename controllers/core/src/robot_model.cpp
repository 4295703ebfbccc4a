// SPDX-License-Identifier: Apache-2.0
#include "vla_ros_core/robot_model.hpp"

#include <Eigen/Eigenvalues>
#include <algorithm>
#include <cmath>
#include <limits>
#include <pinocchio/algorithm/crba.hpp>
#include <pinocchio/algorithm/frames.hpp>
#include <pinocchio/algorithm/jacobian.hpp>
#include <pinocchio/algorithm/kinematics.hpp>
#include <pinocchio/algorithm/model.hpp>
#include <pinocchio/algorithm/rnea.hpp>
#include <pinocchio/multibody/data.hpp>
#include <pinocchio/multibody/model.hpp>
#include <pinocchio/parsers/urdf.hpp>
#include <regex>
#include <sstream>

#include "vla_ros_core/config_check.hpp"

namespace vla_ros_core
{

namespace
{

const std::string kJointEnd = "</joint>";
constexpr double kNoLimitRad = 1e6;
const std::string kNoLimit =
  "<limit lower=\"-1e6\" upper=\"1e6\" effort=\"1000\" velocity=\"100\"/>";

/// A continuous joint turns without end: Pinocchio would give it two coordinates, cosine and sine.
std::string without_continuous_joints(std::string xml)
{
  const std::regex continuous("type\\s*=\\s*[\"']continuous[\"']");
  // A limit element is what makes it revolute; one of its own would win, so effort and velocity of
  // the original are not needed here.
  std::string result;
  auto begin = xml.cbegin();
  std::smatch match;
  while (std::regex_search(begin, xml.cend(), match, continuous))
  {
    result.append(begin, match[0].first);
    result += "type=\"revolute\"";
    begin = match[0].second;
    const auto tag_end = std::find(begin, xml.cend(), '>');
    const auto joint_end = std::search(tag_end, xml.cend(), kJointEnd.begin(), kJointEnd.end());
    std::string body(tag_end == xml.cend() ? tag_end : tag_end + 1, joint_end);
    body = std::regex_replace(body, std::regex("<limit[^>]*(/>|>[\\s\\S]*?</limit>)"), "");
    result.append(begin, tag_end == xml.cend() ? tag_end : tag_end + 1);
    result += kNoLimit;
    result += body;
    begin = joint_end;
  }
  result.append(begin, xml.cend());
  return result;
}

pinocchio::Model parse_urdf(const std::string & text)
{
  pinocchio::Model model;
  const std::string xml = without_continuous_joints(text);
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
  pinocchio::Inertia ee_body;  // of the last body, without payload
  pinocchio::FrameIndex ee = 0;
  pinocchio::FrameIndex base = 0;
  std::vector<pinocchio::JointIndex> ee_joints;  // those that move the end effector
  pinocchio::SE3 base_in_world;
  Eigen::VectorXd q;
  Eigen::VectorXd dq;

  explicit Impl(pinocchio::Model m) : model(std::move(m)), data(model)
  {
    q = Eigen::VectorXd::Zero(model.nq);
    dq = Eigen::VectorXd::Zero(model.nv);
  }

  /// Gravity torque, C(q, dq) dq or their sum, by the recursive Newton-Euler algorithm.
  ///
  /// In world axes about the world's origin, where the pass before left the placements and the
  /// joint axes: no transform between bodies is left to do, unlike in pinocchio::rnea. There,
  /// v_i = v_p + s_i dq_i and a_i = a_p + v_p x s_i dq_i, f_i = Y_i a_i + v_i x* Y_i v_i, and
  /// tau_i = s_i . sum of f over the bodies from i on [docs/compliant-control.md, 4].
  void bias(bool with_gravity, bool with_velocity, JointVector & tau) noexcept
  {
    // Moving up with -g is how gravity looks to the bodies.
    data.oa[0] = with_gravity ? pinocchio::Motion(-model.gravity) : pinocchio::Motion::Zero();
    data.ov[0].setZero();
    for (size_t i = 1; i < static_cast<size_t>(model.njoints); ++i)
    {
      const size_t parent = model.parents[i];
      const pinocchio::Inertia body = data.oMi[i].act(model.inertias[i]);
      data.oa[i] = data.oa[parent];
      if (with_velocity)
      {
        const auto column = static_cast<Eigen::Index>(i) - 1;
        const pinocchio::Motion own(data.J.col(column) * dq[column]);
        data.ov[i] = data.ov[parent] + own;
        data.oa[i] += data.ov[parent].cross(own);
        data.of[i] = body * data.oa[i] + data.ov[i].cross(body * data.ov[i]);
      }
      else
      {
        data.of[i] = body * data.oa[i];
      }
    }
    for (size_t i = static_cast<size_t>(model.njoints) - 1; i > 0; --i)
    {
      const auto column = static_cast<Eigen::Index>(i) - 1;
      tau[column] = data.J.col(column).dot(data.of[i].toVector());
      data.of[model.parents[i]] += data.of[i];
    }
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
  const auto & support = model.supports[model.frames[impl_->ee].parentJoint];
  impl_->ee_joints.assign(support.begin() + 1, support.end());  // the first is the world
  impl_->ee_body = model.inertias[model.frames[impl_->ee].parentJoint];
  jacobian_.setZero(6, n_joints_);
  mass_matrix_.setZero(n_joints_, n_joints_);
  gravity_.setZero(n_joints_);
  coriolis_.setZero(n_joints_);
  bias_.setZero(n_joints_);
  q_min_ = model.lowerPositionLimit;
  q_max_ = model.upperPositionLimit;
  for (int i = 0; i < n_joints_; ++i)
  {
    if (q_max_[i] < kNoLimitRad && q_max_[i] > q_min_[i]) continue;
    q_min_[i] = -std::numeric_limits<double>::infinity();
    q_max_[i] = std::numeric_limits<double>::infinity();
  }
}

RobotModel::~RobotModel() = default;

void RobotModel::set_payload(const Payload & payload)
{
  check_range("payload.mass_kg", payload.mass_kg, 0.0, 100.0);
  for (int i = 0; i < 3; ++i)
  {
    check_range("payload.com_m[" + std::to_string(i) + "]", payload.com_m[i], -2.0, 2.0);
  }
  const Eigen::Matrix3d & inertia = payload.inertia_kg_m2;
  const Eigen::Vector3d moments =
    Eigen::SelfAdjointEigenSolver<Eigen::Matrix3d>(inertia).eigenvalues();
  const bool is_body = inertia.allFinite() && inertia.isApprox(inertia.transpose(), 1e-9) &&
                       moments[0] >= -1e-12 && moments[2] <= moments[0] + moments[1] + 1e-9;
  if (!is_body)
  {
    throw Error(
      "payload.inertia_kg_m2 must be symmetric with moments of which none is larger than the sum "
      "of the other two");
  }
  const pinocchio::Frame & frame = impl_->model.frames[impl_->ee];
  pinocchio::Inertia body = impl_->ee_body;
  if (payload.mass_kg > 0.0)
  {
    body += frame.placement.act(pinocchio::Inertia(payload.mass_kg, payload.com_m, inertia));
  }
  impl_->model.inertias[frame.parentJoint] = body;
}

void RobotModel::update(const JointVector & q, const JointVector & dq) noexcept
{
  update(q, dq, ModelTerms{});
  impl_->bias(true, false, gravity_);
  coriolis_ = bias_ - gravity_;
}

void RobotModel::update(
  const JointVector & q, const JointVector & dq, const ModelTerms & terms) noexcept
{
  const pinocchio::Model & model = impl_->model;
  pinocchio::Data & data = impl_->data;
  impl_->q = q;
  impl_->dq = dq;
  terms_ = terms;
  if (terms.mass)
  {
    // In world axes the same pass also leaves the joint Jacobian and placements behind.
    pinocchio::crba(model, data, impl_->q, pinocchio::Convention::WORLD);
    copy_mass();
  }
  else
  {
    pinocchio::computeJointJacobians(model, data, impl_->q);
  }
  update_kinematics(dq);
  if (terms.gravity || terms.coriolis) impl_->bias(terms.gravity, terms.coriolis, bias_);
}

void RobotModel::require_mass() noexcept
{
  if (terms_.mass) return;
  pinocchio::crba(impl_->model, impl_->data, impl_->q, pinocchio::Convention::WORLD);
  copy_mass();
  terms_.mass = true;
}

void RobotModel::copy_mass() noexcept
{
  mass_matrix_ = impl_->data.M;
  mass_matrix_.triangularView<Eigen::StrictlyLower>() =
    mass_matrix_.transpose().triangularView<Eigen::StrictlyLower>();
}

void RobotModel::update_kinematics(const JointVector & dq) noexcept
{
  pinocchio::Data & data = impl_->data;
  const pinocchio::SE3 & base = impl_->base_in_world;
  const pinocchio::SE3 & placement = pinocchio::updateFramePlacement(impl_->model, data, impl_->ee);
  const pinocchio::SE3 ee = base.actInv(placement);
  ee_pose_.position = ee.translation();
  ee_pose_.rotation = Eigen::Quaterniond(ee.rotation()).normalized();
  const Eigen::Matrix3d to_base = base.rotation().transpose();
  jacobian_.setZero();
  for (const pinocchio::JointIndex joint : impl_->ee_joints)
  {
    // Pinocchio's column is the twist of the point at the world's origin; ours is that at the EE.
    const auto i = static_cast<Eigen::Index>(joint) - 1;
    const Eigen::Vector3d axis = data.J.block<3, 1>(3, i);
    const Eigen::Vector3d linear = data.J.block<3, 1>(0, i) + axis.cross(placement.translation());
    jacobian_.block<3, 1>(0, i).noalias() = to_base * linear;
    jacobian_.block<3, 1>(3, i).noalias() = to_base * axis;
  }
  ee_twist_.noalias() = jacobian_ * dq;
}

const JointVector & RobotModel::gravity_only(const JointVector & q) noexcept
{
  impl_->q = q;
  gravity_ = pinocchio::computeGeneralizedGravity(impl_->model, impl_->data, impl_->q);
  return gravity_;
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
