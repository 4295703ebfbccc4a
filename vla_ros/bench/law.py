# SPDX-License-Identifier: Apache-2.0
"""Time of one tick of the law, beside the published law as it is usually written.

Both run inside C++ loops of one process, in turns of 100 ticks, over the same states.
"""

from __future__ import annotations

import time
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np

import vla_ros_core as core
from vla_ros.bench.measurement import Measurement, compared
from vla_ros.control.config import ControlConfig
from vla_ros.control.host import ArmDescription, build_model, to_law_config
from vla_ros.errors import ConfigError
from vla_ros.geometry import quat_multiply, rotation_vector_to_quat

N_TICKS = 20_000
_RATE_HZ = 1000.0
_BLOCK = 100
_SAME_NM = 1e-9
# Published implementation of the same law in its own framework, on another machine with two
# shared cores; measured before, not in this run.
_MEASURED_ELSEWHERE_US = {"impedance": 15.7, "osc": 32.8}


def random_states(bench: ModuleType, arm: ArmDescription, n: int, seed: int = 0) -> Any:
    """Return ``n`` states about the arm's posture: sigma 0.1 rad, 0.1 rad/s.

    Targets lie about the end effector of the posture: sigma 20 mm, 0.1 rad.
    """
    random = np.random.default_rng(seed)
    home = np.array(arm.posture)
    model = build_model(arm)
    model.update(list(home), [0.0] * len(home))
    terms = model.terms()
    turns = (rotation_vector_to_quat(v) for v in random.normal(0, 0.1, (n, 3)))
    quats = [quat_multiply(turn, np.asarray(terms["quat_xyzw"])) for turn in turns]
    states = bench.States()
    states.q = home[:, None] + random.normal(0, 0.1, (len(home), n))
    states.dq = random.normal(0, 0.1, (len(home), n))
    states.position = np.asarray(terms["position"])[:, None] + random.normal(0, 0.02, (3, n))
    states.quat_xyzw = np.stack(quats, axis=1)
    return states


def equal_features(
    bench: ModuleType, arm: ArmDescription, *, osc: bool, limits: bool = True
) -> tuple[core.LawConfig, Any]:
    """Return our configuration and the rendition that compute the same torque.

    Without ``limits`` neither output filter nor rate limit is on, which the two apply in another
    order.
    """
    n = len(arm.joint_names)
    theirs = bench.RenditionConfig.for_joints(n)
    theirs.operational_space = osc
    if not limits:
        # Soft enough that the largest rate limit of ours is not met either.
        theirs.stiffness = np.asarray(theirs.stiffness) / (10.0 if osc else 1.0)
        theirs.limit_torque_rate, theirs.filter_torque = False, 0.0
    ours = core.LawConfig.for_joints(n)
    ours.kind = core.LawKind.OPERATIONAL_SPACE if osc else core.LawKind.IMPEDANCE
    ours.damping_design, ours.projector = core.DampingDesign.PLAIN, core.Projector.KINEMATIC
    gains = ours.gains
    gains.stiffness, gains.error_clip = np.diag(theirs.stiffness), theirs.error_clip
    gains.nullspace_stiffness = list(theirs.nullspace_stiffness)
    gains.nullspace_torque_limit_nm = theirs.nullspace_torque_limit_nm
    ours.gains = gains
    ours.operational_regularisation = theirs.operational_regularisation
    ours.kinematic_regularisation = theirs.nullspace_regularisation
    ours.compensate_gravity = ours.compensate_coriolis = False
    ours.limit_range_rad, ours.limit_torque_nm = theirs.limit_range_rad, theirs.limit_torque_nm
    ours.posture = list(arm.posture)
    ours.torque_limit = [1000.0] * n
    ours.torque_rate_limit = [theirs.torque_step_nm * _RATE_HZ if limits else 1e5] * n
    filters = ours.filters
    filters.position_s, filters.velocity_s = _time_s(theirs.filter_q), _time_s(theirs.filter_dq)
    filters.target_s, filters.posture_s = (
        _time_s(theirs.filter_target),
        _time_s(theirs.filter_posture),
    )
    filters.torque_s = _time_s(theirs.filter_torque)
    ours.filters = filters
    return ours, build_rendition(bench, arm, theirs)


def build_rendition(bench: ModuleType, arm: ArmDescription, config: Any) -> Any:
    """Return the published law for an arm."""
    return bench.Rendition(
        arm.urdf_xml, list(arm.joint_names), arm.ee_frame, list(arm.armature_kg_m2), config
    )


def _time_s(share_kept: float) -> float:
    """Time constant of a filter that keeps this share of the old value per tick."""
    return float(-1.0 / _RATE_HZ / np.log(share_kept)) if share_kept > 0.0 else 0.0


def measure_law(bench: ModuleType, arm: ArmDescription, n: int = N_TICKS) -> list[Measurement]:
    """Return the comparisons of the tick.

    Raises:
        ConfigError: if the two laws that should be equal are not.
    """
    states = random_states(bench, arm, n)
    results = []
    for name in ("impedance", "osc"):
        osc = name == "osc"
        ours, theirs = equal_features(bench, arm, osc=osc, limits=False)
        apart = bench.measure(ours, build_model(arm), theirs, states, _BLOCK).largest_difference_nm
        if not apart < _SAME_NM:
            raise ConfigError(f"the laws compared as {name} differ by {apart:.3g} N·m")
        ours, theirs = equal_features(bench, arm, osc=osc)
        times = bench.measure(ours, build_model(arm), theirs, states, _BLOCK)
        text = (
            "equal features, plain damping 2 sqrt(K), kinematic projector"
            f"{', regularised inertia' if osc else ''}; torques differ by {apart:.1e} N·m. "
            "Alternative: the published law with matrices of run-time size and SVD. "
            f"CRISP's controller itself: {_MEASURED_ELSEWHERE_US[name]} us on two shared cores, "
            "with its copy of the parameters"
        )
        results.append(_from_times(f"control.{name}.tick_p50", times, text, 0.25))
    _, theirs = equal_features(bench, arm, osc=False)
    times = bench.measure(
        to_law_config(ControlConfig(), arm), build_model(arm), theirs, states, _BLOCK
    )
    text = (
        "default of vla_ros with gravity, Coriolis, inertia-aware damping and dynamic projector; "
        "alternative: default of the published law, which has none of these"
    )
    results.append(_from_times("control.impedance_default.tick_p50", times, text, 0.5))
    results.append(_call_overhead(bench, arm))
    return results


def _from_times(name: str, times: Any, what: str, target: float) -> Measurement:
    ours, theirs = (np.asarray(t) / 1000.0 for t in (times.ours_ns, times.theirs_ns))
    result = compared(name, float(np.median(ours)), float(np.median(theirs)), "us", len(ours), what)
    return replace(
        result,
        ours_p99=float(np.percentile(ours, 99)),
        alternative_p99=float(np.percentile(theirs, 99)),
        target=target,
    )


def _call_overhead(bench: ModuleType, arm: ArmDescription, blocks: int = 200) -> Measurement:
    """Return the time of ``Law.step`` against the law inside plus an empty call."""
    states = random_states(bench, arm, _BLOCK)
    config = to_law_config(ControlConfig(), arm)
    model = build_model(arm)
    law = core.Law(config, model)
    law.q[:], law.dq[:] = states.q[:, 0], states.dq[:, 0]
    law.position[:], law.quat_xyzw[:] = states.position[:, 0], states.quat_xyzw[:, 0]
    # The same state at every tick, as in the calls from Python.
    for name in ("q", "dq", "position", "quat_xyzw"):
        setattr(states, name, np.repeat(np.asarray(getattr(states, name))[:, :1], _BLOCK, axis=1))
    inside, empty, outside = np.empty(blocks), np.empty(blocks), np.empty(blocks)
    for i in range(blocks):
        times = bench.measure(config, model, None, states, _BLOCK)
        inside[i] = np.median(times.ours_ns) / 1000.0
        empty[i] = _us_per_call(core.do_nothing)
        outside[i] = _us_per_call(law.step)
    step, law_us, call_us = (float(np.median(t)) for t in (outside, inside, empty))
    return compared(
        "control.python_call_overhead",
        step,
        law_us + call_us,
        "us",
        blocks * _BLOCK,
        f"Law.step() from Python; alternative: the law inside ({law_us:.2f} us) and an empty bound "
        f"call ({call_us:.2f} us). Above the law: {step - law_us:.2f} us, aimed at 1 us",
    )


def _us_per_call(function: Any) -> float:
    """Return the mean duration of a call in a block [us]."""
    start_ns = time.perf_counter_ns()
    for _ in range(_BLOCK):
        function(1e-3)
    return (time.perf_counter_ns() - start_ns) / 1000.0 / _BLOCK
