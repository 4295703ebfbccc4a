# SPDX-License-Identifier: Apache-2.0
"""Which nodes a configuration needs: the one list that launch files and the command line read."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from vla_ros.chunking.strategies.registry import strategy_names
from vla_ros.config_fields import check_fields, setting
from vla_ros.embodiment.robot import load_robot
from vla_ros.errors import ConfigError
from vla_ros.policies.onnx.providers import AUTO, PROVIDERS
from vla_ros.policies.registry import (
    ALLOWED,
    DEFAULT_POLICY,
    demand_cache,
    resolve_policy_name,
)
from vla_ros.sim.prepare import SceneFiles

PACKAGE = "vla_ros"
SIMULATED = "fr3"
SCENES = ("table", "none")
RESIDUALS = ("none", "topic", "node")
# Started by hand, on the host that needs them.
OPTIONAL_NODES = ("latent_bridge_node",)

ParameterValue = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class BringupConfig:
    """What to start."""

    robot: str = setting(SIMULATED, "robot to simulate: its name, or a .yaml file of your own")
    scene: str = setting(
        "table",
        "what is around the arm: a table with cubes, bowls and cameras, or none",
        choices=SCENES,
    )
    policy: str = setting(DEFAULT_POLICY, f"slow and fast policy: {ALLOWED}")
    policy_provider: str = setting(AUTO, "where the graphs of an export run", choices=PROVIDERS)
    policy_threads: int = setting(1, "their threads on the CPU, each", ge=1, le=64)
    policy_cache: bool = setting(
        False, "the slow half of an export computes anew only what changed in the image"
    )
    strategy: str = setting(
        "timed", "how chunks are joined; docs/strategies.md", choices=strategy_names()
    )
    residual: str = setting(
        "none",
        "who corrects the fast policy: nobody, a topic of yours (residual), or residual_node (an "
        "offset, a SpaceMouse); docs/policy-hooks.md",
        choices=RESIDUALS,
    )
    slow_latency_ms: float = setting(
        300.0,
        "stretch every slow inference to this duration; 0 leaves it as fast as it is",
        unit="ms",
        ge=0.0,
        le=20000.0,
    )
    slow_mode: str = setting(
        "idle",
        "how that time passes: idle (as with a remote server) or busy (computing here)",
        choices=("idle", "busy"),
    )
    busy_threads: int = setting(1, "computing threads in busy mode", ge=1, le=64)
    priority: str = setting(
        "auto",
        "scheduling of the control thread: fifo where permitted (auto), fifo, or normal",
        choices=("auto", "fifo", "normal"),
    )
    record: bool = setting(True, "record every episode as a rosbag2 bag")
    viewer: bool = setting(True, "serve the live 3-D view on 127.0.0.1")
    port: int = setting(
        8080, "port of the live view; the next free one is taken", ge=1024, le=65535
    )
    shm_prefix: str = setting("vla_ros.fr3", "prefix of the shared memory")

    def __post_init__(self) -> None:
        check_fields(self)
        if self.scene != "none":  # around a bare arm nothing runs a policy
            # Absolute: the nodes start in other folders.
            object.__setattr__(self, "policy", resolve_policy_name(self.policy))
            if self.policy_cache:
                demand_cache(self.policy)
        robot, simulated = load_robot(self.robot), load_robot(SIMULATED)
        if self.scene == "table" and robot.joint_names != simulated.joint_names:
            raise ConfigError(
                f"only the joints of {SIMULATED} can be simulated at the table "
                f"({', '.join(simulated.joint_names)}), got {', '.join(robot.joint_names)}; "
                "any other robot needs scene none"
            )


@dataclass(frozen=True, kw_only=True)
class NodeSpec:
    """One process.

    Attributes:
        name: node and executable name.
        nice: added to the nice value of the process; the control host stays at 0.
        respawn: start it again when it dies. Never the control host: a robot whose control host
            died needs a person.
    """

    name: str
    parameters: Mapping[str, ParameterValue] = field(default_factory=dict)
    nice: int = 10
    respawn: bool = True


def nodes_for(config: BringupConfig, scene: SceneFiles) -> list[NodeSpec]:
    """Return the nodes in the order in which they should be started.

    Around a bare arm nothing can be seen or done: it gets a control host and a supervisor.
    """
    prefix: dict[str, ParameterValue] = {"shm_prefix": config.shm_prefix}
    model: dict[str, ParameterValue] = {"scene_model": str(scene.model)}
    info: dict[str, ParameterValue] = {"scene_info": str(scene.info or "")}
    policy: dict[str, ParameterValue] = {
        "policy": config.policy,
        "policy_provider": config.policy_provider,
        "policy_threads": config.policy_threads,
    }
    slow: dict[str, ParameterValue] = {
        "policy_cache": config.policy_cache,
        "slow_latency_ms": config.slow_latency_ms,
        "slow_mode": config.slow_mode,
        "busy_threads": config.busy_threads,
    }
    hooks: dict[str, ParameterValue] = {"residual": True} if config.residual != "none" else {}
    control: dict[str, ParameterValue] = asdict(load_robot(config.robot).control)
    control |= {"priority": config.priority, "robot": config.robot}
    nodes = [
        NodeSpec(
            name="control_node",
            parameters=prefix | model | info | control,
            nice=0,
            respawn=False,
        ),
        NodeSpec(name="supervisor_node", parameters=prefix, nice=5),
    ]
    if config.scene == "none":
        return nodes
    nodes += [
        NodeSpec(
            name="executor_node",
            parameters=prefix | policy | {"strategy": config.strategy} | hooks,
            nice=5,
        ),
        NodeSpec(name="camera_node", parameters=prefix | model, nice=10),
        NodeSpec(name="vla_node", parameters=prefix | policy | slow, nice=15),
        NodeSpec(name="task_node", parameters={"policy": config.policy}, nice=10),
    ]
    if config.residual == "node":
        nodes.append(NodeSpec(name="residual_node", nice=5))
    if config.record:
        nodes.append(NodeSpec(name="recorder_node", nice=10))
    if config.viewer:
        viewer = prefix | info | {"port": config.port}
        nodes.append(NodeSpec(name="viewer_node", parameters=viewer, nice=19))
    return nodes


def default_run_folder(root: Path, utc: str) -> Path:
    """Return a folder of its own for one run."""
    folder = root / utc
    number = 1
    while folder.exists():
        number += 1
        folder = root / f"{utc}-{number}"
    return folder


def free_port(wanted: int, tries: int = 50) -> int:
    """Return ``wanted`` or the next free TCP port of 127.0.0.1 after it.

    Raises:
        ConfigError: if none of them is free.
    """
    for port in range(wanted, wanted + tries):
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ConfigError(f"no free port from {wanted} to {wanted + tries - 1}: choose another")
