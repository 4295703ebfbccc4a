// SPDX-License-Identifier: Apache-2.0
// The published law that arms are usually run with, in the structure it is usually written in:
// matrices of run-time size and a singular value decomposition for every pseudo-inverse. Something
// to measure the law of vla_ros against; nothing of it is installed.
#pragma once

#include <Eigen/Core>
#include <Eigen/Geometry>
#include <memory>
#include <string>
#include <vector>

namespace vla_ros_bench
{

enum class Projection
{
  kKinematic = 0,  ///< I - J^+ J
  kDynamic = 1,    ///< I - J^T Lambda J M^-1
  kNone = 2,
};

/// Filters are shares of the old value, per tick: 0 leaves a signal alone, 1 freezes it.
struct RenditionConfig
{
  bool operational_space = false;
  double operational_regularisation = 0.01;
  bool end_effector_axes = false;
  Eigen::VectorXd stiffness;  ///< (6)
  Eigen::VectorXd damping;    ///< (6) an entry of 0 or less means 2 sqrt(k)
  bool limit_error = true;
  Eigen::VectorXd error_clip;  ///< (6)

  Projection projection = Projection::kKinematic;
  double nullspace_regularisation = 1e-6;
  Eigen::VectorXd nullspace_stiffness;  ///< (n)
  double nullspace_damping = -1.0;      ///< 0 or less means 2 sqrt(k)
  double nullspace_torque_limit_nm = 5.0;

  bool friction = false;
  Eigen::VectorXd friction_a, friction_b, friction_c;  ///< (n)
  bool coriolis = false;
  bool gravity = false;
  double limit_range_rad = 0.1;
  double limit_torque_nm = 5.0;

  bool limit_torque_rate = true;
  double torque_step_nm = 0.5;  ///< per tick

  double filter_q = 0.5;
  double filter_dq = 0.5;
  double filter_target = 0.1;
  double filter_posture = 0.5;
  double filter_torque = 0.5;

  /// The defaults that the published controller comes with.
  static RenditionConfig for_joints(int n_joints);
};

/// What one tick is given. Root frame of the URDF.
struct RenditionInput
{
  Eigen::VectorXd q;
  Eigen::VectorXd dq;
  Eigen::Vector3d position = Eigen::Vector3d::Zero();
  Eigen::Quaterniond rotation = Eigen::Quaterniond::Identity();
  Eigen::VectorXd wrench;        ///< (6) feed-forward, linear first
  Eigen::VectorXd posture;       ///< (n)
  Eigen::VectorXd posture_rate;  ///< (n)
};

class Rendition
{
public:
  Rendition(
    const std::string & urdf_xml, const std::vector<std::string> & joint_names,
    const std::string & ee_frame, const std::vector<double> & armature,
    const RenditionConfig & config);
  ~Rendition();

  /// Torque of one tick (n) [N·m].
  const Eigen::VectorXd & step(const RenditionInput & input);

  /// Forget all filters and continue from a torque.
  void reset(const Eigen::VectorXd & tau);

private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// V diag(s / (s^2 + epsilon^2)) U^T of a matrix U diag(s) V^T.
Eigen::MatrixXd damped_pseudo_inverse(const Eigen::MatrixXd & matrix, double epsilon);

}  // namespace vla_ros_bench
