# SPDX-License-Identifier: Apache-2.0
"""``vla-ros faults``: kill, freeze and stop during motion, and say what the arm did."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vla_ros.bringup import BringupConfig, nodes_for
from vla_ros.commands.options import add_options, read_options
from vla_ros.commands.output import say
from vla_ros.commands.stop_trials import are_in_time, render_stops, run_stops, write_stops
from vla_ros.config_fields import check_fields, setting
from vla_ros.embodiment.robot import load_robot
from vla_ros.policies.registry import ALLOWED, CLASSICAL, resolve_policy_name
from vla_ros.sim.prepare import prepare_scene
from vla_ros.sim.tasks import instruction_for_seed

if TYPE_CHECKING:
    from vla_ros.nodes.fault_rig import FaultRig

# What ends the motion when a node falls silent, and how long that takes at most [s].
_ROWS_S = 16 / 30
_LEASE_S = 0.2
_KEEPALIVE_S = 0.3
_GRACE_S = 0.5
_OBSERVE_S = 3.0
_TORQUE_RATE = 1.0  # N·m per tick


@dataclass(frozen=True, kw_only=True)
class FaultOptions:
    """What to try."""

    slow_latency_ms: float = setting(300.0, "slow latency", unit="ms", ge=0.0, le=20000.0)
    # What is tried is the runtime: with a policy that always finishes, an episode that does not
    # finish is the fault's doing.
    policy: str = setting(CLASSICAL, f"what moves the arm: {ALLOWED}")
    stops: int = setting(30, "number of stops", ge=0, le=10000)
    nodes: str = setting(
        "executor_node,vla_node,camera_node,supervisor_node,task_node,recorder_node,control_node",
        "nodes to kill and freeze, comma separated",
    )
    priority: str = setting(
        "auto", "scheduling of the control thread", choices=("auto", "fifo", "normal")
    )
    json: str = setting("", "file for the results")
    results: str = setting("", "folder for stop.csv and stop.md; empty: none are written")

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "policy", resolve_policy_name(self.policy))


@dataclass(frozen=True, kw_only=True)
class Trial:
    """What one fault did."""

    node: str
    fault: str
    rest_ms: float
    bound_ms: float
    torque_violations: int
    outcome: str
    ok: bool


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of this command."""
    add_options(parser.add_argument_group("what to try"), FaultOptions)


def run(namespace: argparse.Namespace) -> int:
    """Run all trials; 0 if every one keeps its bound."""
    options = read_options(namespace, FaultOptions)
    limits = np.array(load_robot("fr3").limits.tau_max_nm)
    trials: list[Trial] = []
    say(f"{'node':<16} {'fault':<8} {'rest':>8} {'bound':>8}  torque  then")
    names = [name.strip() for name in options.nodes.split(",") if name.strip()]
    with _running(options) as rig:
        for seed, name in enumerate(n for n in names if n != "control_node"):
            for fault in ("SIGKILL", "SIGSTOP"):
                trials.append(_disturb(rig, name, fault, seed, limits))
                _say_trial(trials[-1])
        if "control_node" in names:
            trials.append(_freeze_control(rig, limits))
            _say_trial(trials[-1])
        stops = run_stops(rig, options.stops, say)
    ok = all(trial.ok for trial in trials)
    if stops:
        say(render_stops(stops))
        ok = ok and are_in_time(stops)
        if options.results:
            write_stops(stops, Path(options.results))
    if options.json:
        results = {
            "trials": [asdict(t) for t in trials],
            "stops": [asdict(t) for t in stops],
            "ok": ok,
        }
        Path(options.json).write_text(json.dumps(results, indent=1), encoding="utf-8")
    say("every bound kept" if ok else "a bound was broken")
    return 0 if ok else 1


@contextlib.contextmanager
def _running(options: FaultOptions) -> Iterator[FaultRig]:
    from vla_ros.nodes import processes
    from vla_ros.nodes.fault_rig import FaultRig
    from vla_ros.nodes.session import client_node
    from vla_ros.nodes.stack import Stack

    domain, lock = processes.take_domain()
    prefix = f"vla_ros.d{domain}.fr3"
    os.environ.update(processes.run_environment(domain))
    processes.remove_shared_memory(prefix)
    config = BringupConfig(
        shm_prefix=prefix,
        policy=options.policy,
        slow_latency_ms=options.slow_latency_ms,
        priority=options.priority,
        viewer=False,
    )
    with tempfile.TemporaryDirectory(prefix="vla_ros_faults_") as folder:
        specs = nodes_for(config, prepare_scene(Path(folder)))
        group = processes.ProcessGroup(specs, {}, Path(folder) / "logs")
        with client_node("vla_ros_faults") as node:
            try:
                stack = Stack(group, node)
                stack.start()
                yield FaultRig(node, stack, group, prefix)
            finally:
                group.stop()
                processes.remove_shared_memory(prefix)
                lock.close()


def _bound_s(rig: FaultRig, name: str, t0_ns: int) -> float:
    """Return within which time after the fault the arm must rest [s]; inf if it need not."""
    expiry_s = (rig.valid_until_ns() - t0_ns) * 1e-9
    return {
        "executor_node": min(_ROWS_S, expiry_s) + _GRACE_S,
        "vla_node": expiry_s + _GRACE_S,
        "camera_node": expiry_s + _GRACE_S,
        "supervisor_node": _LEASE_S + _GRACE_S,
        "task_node": _KEEPALIVE_S + _LEASE_S + _GRACE_S,
    }.get(name, float("inf"))


def _disturb(rig: FaultRig, name: str, fault: str, seed: int, limits: np.ndarray) -> Trial:
    result = rig.begin_motion(seed, instruction_for_seed(seed))
    number = signal.Signals[fault]
    t0_ns = rig.signal(name, number)
    rig.pause(_OBSERVE_S)
    trace = rig.trace()
    # Known only afterwards: a latent under way when the slow half fell silent still counts.
    bound_s = _bound_s(rig, name, t0_ns)
    if fault == "SIGSTOP":
        rig.signal(name, signal.SIGCONT)
    is_lost = name == "task_node" and fault == "SIGKILL"
    outcome = rig.wait_for_outcome(result, 3.0 if is_lost else 45.0)
    if is_lost:
        # The goal died with its server; a new one must be possible.
        rig.pause(1.0)
        outcome = rig.wait_for_outcome(rig.begin_motion(seed, instruction_for_seed(seed)), 45.0)
    violations = rig.trace().torque_violations(limits, _TORQUE_RATE)
    rest_ms = trace.rest_after_ms(t0_ns)
    goes_on = outcome == "verified" or (name == "task_node" and outcome in ("stopped", "failed"))
    return Trial(
        node=name,
        fault=fault,
        rest_ms=rest_ms,
        bound_ms=1000.0 * bound_s,
        torque_violations=violations,
        outcome=outcome,
        ok=bool(violations == 0 and goes_on and (np.isinf(bound_s) or rest_ms <= 1000.0 * bound_s)),
    )


def _freeze_control(rig: FaultRig, limits: np.ndarray) -> Trial:
    """Freeze the control host itself: the simulated world stands still with it."""
    result = rig.begin_motion(0, instruction_for_seed(0))
    rig.signal("control_node", signal.SIGSTOP)
    rig.pause(1.0)
    t0_ns = rig.signal("control_node", signal.SIGCONT)
    rig.pause(0.2)
    outcome = rig.wait_for_outcome(result, 45.0)
    trace = rig.trace()
    violations = trace.torque_violations(limits, _TORQUE_RATE)
    return Trial(
        node="control_node",
        fault="SIGSTOP",
        rest_ms=trace.rest_after_ms(t0_ns),
        bound_ms=float("inf"),
        torque_violations=violations,
        outcome=outcome,
        ok=violations == 0 and outcome == "verified",
    )


def _say_trial(t: Trial) -> None:
    free = np.isinf(t.bound_ms)  # the arm need not rest, so when it did says nothing
    bound, rest = ("-", "-") if free else (f"{t.bound_ms:.0f} ms", f"{t.rest_ms:.0f} ms")
    torque = "ok" if t.torque_violations == 0 else f"{t.torque_violations} bad"
    mark = "ok" if t.ok else "BROKEN"
    say(f"{t.node:<16} {t.fault:<8} {rest:>8} {bound:>8}  {torque:<6}  {t.outcome}  {mark}")
