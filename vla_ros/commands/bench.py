# SPDX-License-Identifier: Apache-2.0
"""``vla-ros bench``: speed, always beside an alternative in the same run."""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import vla_ros_core as core
from vla_ros.commands.options import add_options, read_options
from vla_ros.commands.output import say
from vla_ros.config_fields import check_fields, setting
from vla_ros.control.config import ControlConfig
from vla_ros.control.host import build_model, to_law_config
from vla_ros.latency.stamp import LatencyStamp, StampKind
from vla_ros.sim.plant import FR3_HOME_Q, fr3_arm

_STAMP = LatencyStamp(kind=StampKind.LATENT).to_bytes()


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """What to measure."""

    repeats: int = setting(2000, "repetitions of the short measurements", ge=10, le=10**6)
    out: str = setting("bench/latest.json", "file for the results")
    ros: bool = setting(True, "measure the alternatives that need ROS")

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One comparison; smaller is better unless ``what`` says otherwise."""

    name: str
    ours: float
    alternative: float
    ratio: float
    unit: str
    n: int
    what: str


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_options(parser.add_argument_group("what to measure"), BenchOptions)


def run(namespace: argparse.Namespace) -> int:
    """Measure everything and write the file."""
    options = read_options(namespace, BenchOptions)
    results = [_impedance_tick(options.repeats)]
    if options.ros:
        results += _handovers(options.repeats)
    results.append(_recording())
    path = Path(options.out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([asdict(r) for r in results], indent=1) + "\n", encoding="utf-8")
    for r in results:
        say(
            f"{r.name:<36} {r.ours:10.2f} against {r.alternative:10.2f} {r.unit:<10} "
            f"ratio {r.ratio:.4f}  (n = {r.n})\n    {r.what}"
        )
    say(f"written to {path}")
    return 0


def _p50_us(function: Callable[[], object], n: int) -> float:
    """Return the median duration [us]; the first tenth warms up and is left out."""
    durations = np.empty(n)
    for i in range(n):
        start_ns = time.perf_counter_ns()
        function()
        durations[i] = time.perf_counter_ns() - start_ns
    return float(np.median(durations[n // 10 :])) / 1000.0


def _measured(
    name: str, ours: float, alternative: float, unit: str, n: int, what: str
) -> Measurement:
    return Measurement(
        name=name,
        ours=ours,
        alternative=alternative,
        ratio=ours / alternative,
        unit=unit,
        n=n,
        what=what,
    )


def _impedance_tick(n: int) -> Measurement:
    """Return the time of the law with its model terms: C++ against NumPy and Pinocchio."""
    import pinocchio as pin

    arm = fr3_arm()
    model = build_model(arm)
    law = core.Law(to_law_config(ControlConfig(), arm), model)
    q, dq = list(FR3_HOME_Q), [0.1] * 7
    model.update(q, dq)
    terms = model.terms()
    position = terms["position"] + 0.01
    law.q[:], law.dq[:] = q, dq
    law.position[:], law.quat_xyzw[:] = position, terms["quat_xyzw"]

    def ours() -> object:
        return law.step(1e-3)

    full = pin.buildModelFromXML(arm.urdf_xml)
    locked = [full.getJointId(f"fr3_finger_joint{i}") for i in (1, 2)]
    peer = pin.buildReducedModel(full, locked, pin.neutral(full))
    data, frame = peer.createData(), peer.getFrameId(arm.ee_frame)
    stiffness, posture = np.diag([1000.0] * 3 + [50.0] * 3), np.array(FR3_HOME_Q)
    q_array, dq_array = np.array(q), np.array(dq)

    def alternative() -> object:
        J = pin.computeFrameJacobian(peer, data, q_array, frame, pin.LOCAL_WORLD_ALIGNED)
        pin.updateFramePlacement(peer, data, frame)
        ee = data.oMf[frame]
        M = pin.crba(peer, data, q_array)
        inertia = np.linalg.inv(J @ np.linalg.solve(M, J.T) + 1e-4 * np.eye(6))
        values, vectors = np.linalg.eig(np.linalg.solve(inertia, stiffness))
        damping = 2.8 * inertia @ (vectors * np.sqrt(values)) @ np.linalg.inv(vectors)
        error = np.concatenate([position - ee.translation, pin.log3(np.eye(3))])
        wrench = stiffness @ error - damping.real @ (J @ dq_array)
        torque = 10.0 * (posture - q_array) - 6.3 * dq_array
        torque -= J.T @ inertia @ J @ np.linalg.solve(M, torque)
        bias = pin.nonLinearEffects(peer, data, q_array, dq_array)
        return J.T @ wrench + torque + bias

    return _measured(
        "control.impedance_default.tick_p50",
        _p50_us(ours, n),
        _p50_us(alternative, n),
        "us",
        n,
        "model and law of the FR3 through the Python binding; alternative: NumPy and Pinocchio "
        "in Python, equal features",
    )


def _handovers(n: int) -> list[Measurement]:
    """Return the time to hand a latent over: ring against a ROS topic, same payload."""
    return [_handover("64KiB", 64 << 10, min(n, 500)), _handover("16MiB", 16 << 20, 20)]


def _handover(label: str, size: int, n: int) -> Measurement:
    from vla_ros.nodes.handover_bench import TopicHandover

    payload = np.random.default_rng(0).integers(0, 255, size, dtype=np.uint8)
    ring_name = f"vla_ros.bench{os.getpid()}"
    writer = core.ShmRing.create(ring_name, 4, size)
    reader = core.ShmRing.open(ring_name)

    received = np.empty(size, dtype=np.uint8)

    def ours() -> object:
        writer.write(_STAMP, payload)
        return reader.read_latest_into(received)

    try:
        ring_us = _p50_us(ours, n)
    finally:
        core.ShmRing.unlink(ring_name)
    with TopicHandover(payload) as topic:
        topic_us = _p50_us(topic.once, n)
    return _measured(
        f"latent.handover_{label}_p50",
        ring_us,
        topic_us,
        "us",
        n,
        "written to the shared-memory ring and copied out again; alternative: published and "
        "received as a ROS topic (Fast DDS), both within one process",
    )


def _recording() -> Measurement:
    """Return messages per second into a bag: ours against the rosbags writer alone."""
    from vla_ros.recording.throughput import measure_throughput

    ours, alternative, n = measure_throughput()
    return _measured(
        "recording.throughput",
        ours,
        alternative,
        "messages/s",
        n,
        "small messages written to a crash-safe bag; alternative: the rosbags writer without "
        "periodic flushes (larger is better)",
    )
