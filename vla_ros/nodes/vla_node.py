# SPDX-License-Identifier: Apache-2.0
"""vla_node: the slow half. Images and words in, stamped latents out; nothing here is real time."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

from vla_ros_msgs.msg import Latent as LatentMsg
from vla_ros_msgs.msg import SlowStatus, TaskState

import vla_ros_core as core
from vla_ros.clock import NS_PER_MS, NS_PER_S
from vla_ros.config_fields import check_fields, setting
from vla_ros.control.state import StateReader
from vla_ros.errors import StaleDataError
from vla_ros.latency.codec import Tensors
from vla_ros.latency.estimator import LatencyEstimator
from vla_ros.latency.ring import LatentWriter
from vla_ros.latency.stamp import LatencyStamp
from vla_ros.latency.stamping import (
    InferenceTimes,
    soft_validity_ns,
    stamp_latent,
    validity_ns,
)
from vla_ros.nodes.base import LATCHED, NodeHealth, VlaNode, run_node
from vla_ros.nodes.conversions import stamp_to_msg, tensors_to_msg
from vla_ros.nodes.loop import describe
from vla_ros.nodes.policy_runner import PolicyRunner, latent_ring_bytes
from vla_ros.nodes.rings import FrameReader
from vla_ros.policies.around import has_reused, timing_of
from vla_ros.policies.base import LatentContract, LooksAtCameras, SlowPolicy
from vla_ros.policies.diagnostics import alarm_of, diagnostics_of
from vla_ros.policies.onnx.providers import AUTO, PROVIDERS
from vla_ros.policies.registry import (
    ALLOWED,
    DEFAULT_POLICY,
    make_slow_policy,
    resolve_policy_name,
)
from vla_ros.policies.stretch import StretchConfig, Stretcher
from vla_ros.types import CameraFrame, Observation

_STATUS_PERIOD_S = 0.5
_MAX_STATE_AGE_NS = 200 * NS_PER_MS
_POLL_S = 0.005
_MISSING_NS = 2 * NS_PER_S  # without images, until it is said; cameras may be as slow as 1 Hz


@dataclass(frozen=True, kw_only=True)
class VlaNodeConfig:
    """Parameters of the slow node."""

    shm_prefix: str = setting("vla_ros.fr3", "prefix of the shared memory", read_only=True)
    policy: str = setting(DEFAULT_POLICY, f"slow policy: {ALLOWED}", read_only=True)
    policy_provider: str = setting(
        AUTO, "where the graph of an export runs", choices=PROVIDERS, read_only=True
    )
    policy_threads: int = setting(1, "its threads on the CPU", ge=1, le=64, read_only=True)
    policy_cache: bool = setting(
        False, "compute anew only what changed in the image", read_only=True
    )
    policy_limit_s: float = setting(
        10.0, "an inference that takes longer is ended", unit="s", ge=0.01, le=600.0, read_only=True
    )
    policy_load_limit_s: float = setting(
        60.0,
        "loading a graph that takes longer is given up; `vla-ros policy check` builds engines",
        unit="s",
        ge=0.1,
        le=3600.0,
        read_only=True,
    )
    cameras: str = setting(
        "", "cameras to wait for, comma separated; empty: those the policy needs", read_only=True
    )
    max_image_age_s: float = setting(
        0.5, "images older than this are not looked at", unit="s", ge=0.02, le=10.0
    )
    slow_latency_ms: float = setting(
        0.0, "stretch every inference to this duration", unit="ms", ge=0.0, le=20000.0
    )
    slow_mode: str = setting(
        "idle",
        "how the time passes: idle (as with a remote server) or busy (computing here)",
        choices=("idle", "busy"),
    )
    busy_threads: int = setting(1, "computing threads in busy mode", ge=1, le=64)

    def __post_init__(self) -> None:
        check_fields(self)
        resolve_policy_name(self.policy)

    def stretch(self) -> StretchConfig:
        """Return how each inference is stretched."""
        return StretchConfig(
            latency_ms=self.slow_latency_ms,
            mode=self.slow_mode,  # type: ignore[arg-type]
            threads=self.busy_threads,
        )


class SlowNode(VlaNode):
    """Runs the slow policy on the newest images while a task runs."""

    config_type = VlaNodeConfig

    def __init__(self) -> None:
        super().__init__("vla_node")
        self._task = TaskState()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._counts: Counter[str] = Counter()
        self._last_error = ""
        self._seq = 0
        self._used_capture_ns = 0
        self._complete_ns = 0
        self._last_publish_ns = 0

    def on_setup(self, config: VlaNodeConfig) -> None:
        """Load the policy; open what it looks at and what it writes."""
        self._runner = PolicyRunner(
            self.get_logger(),
            config.policy_provider,
            config.policy_threads,
            config.policy_limit_s,
            config.policy_load_limit_s,
            caches=config.policy_cache,
        )
        self._policy: SlowPolicy = make_slow_policy(config.policy, self._runner.runtime)
        self._contract = self._policy if isinstance(self._policy, LatentContract) else None
        self._cameras = tuple(name.strip() for name in config.cameras.split(",") if name.strip())
        if not self._cameras and isinstance(self._policy, LooksAtCameras):
            self._cameras = self._policy.cameras
        self._frames = FrameReader(config.shm_prefix, self._cameras)
        self._state = StateReader(config.shm_prefix)
        self._ring = LatentWriter(f"{config.shm_prefix}.latent", latent_ring_bytes(self._policy))
        self._latency = LatencyEstimator()
        self._period = LatencyEstimator(warmup=0)
        self._stretcher = Stretcher(config.stretch(), self._stopping.wait)
        self._latent_pub = self.create_counted_publisher(LatentMsg, "latent", 100)
        self._status_pub = self.create_counted_publisher(SlowStatus, "slow/status")
        self.create_subscription(TaskState, "task/state", self._on_task, LATCHED)
        self.create_timer(_STATUS_PERIOD_S, self._publish_status)

    def on_config_change(self, config: VlaNodeConfig) -> None:
        """Take over a changed stretch; the estimates begin anew with it."""
        self._stretcher = Stretcher(config.stretch(), self._stopping.wait)
        self._latency.reset()

    def on_start(self) -> None:
        """Begin to look."""
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="slow", daemon=True)
        self._thread.start()

    def on_stop(self) -> None:
        """Stop after the inference under way."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout=3.0)
            self._thread = None

    def on_teardown(self) -> None:
        """Give the ring back."""
        self._ring.close()
        self._runner.close()

    def health(self) -> NodeHealth:
        """Say how fast the slow policy is and what went wrong."""
        values = dict(self._counts) | {
            "policy": self.config.policy,
            "latency_ms_p95": self._latency.quantile_ns(0.95) / NS_PER_MS,
            **diagnostics_of(self._policy),
        }
        problem = self._last_error or alarm_of(self._policy)
        if problem:
            return NodeHealth.warn(problem, values)
        is_running = self._task.status == TaskState.RUNNING
        return NodeHealth.ok("running" if is_running else "idle", values)

    def _on_task(self, task: TaskState) -> None:
        self._task = task

    def _run(self) -> None:
        instruction_id = 0
        while not self._stopping.is_set():
            self._ring.beat()
            task = self._task
            if task.status != TaskState.RUNNING:
                self._stopping.wait(_POLL_S)
                continue
            if task.instruction_id != instruction_id:
                instruction_id = task.instruction_id
                self._policy.reset()
                self._last_publish_ns = 0
                self._complete_ns = core.monotonic_ns()
            try:
                self._infer(task)
            except Exception as error:
                # Whatever a policy does: the arm comes to rest when latents expire, and this node
                # must still be there when it recovers.
                self._counts["errors"] += 1
                self._last_error = describe(error)
                self.get_logger().warning(self._last_error, throttle_duration_sec=1.0)
                self._stopping.wait(0.05)

    def _infer(self, task: TaskState) -> None:
        request_ns = core.monotonic_ns()
        frames = self._fresh_frames(request_ns)
        if frames is None:
            self._stopping.wait(_POLL_S)
            return
        observation = Observation(
            state=self._state.fresh(request_ns, _MAX_STATE_AGE_NS),
            instruction=task.instruction,
            instruction_id=task.instruction_id,
            episode_id=task.episode_id,
            frames=frames,
        )
        self._used_capture_ns = observation.capture_newest_ns
        start_ns = core.monotonic_ns()
        tensors = self._stretcher.run(lambda: self._policy.encode(observation), core.monotonic_ns)
        end_ns = core.monotonic_ns()
        timing = timing_of(self._policy)
        if timing is not None:
            # The stamp tells computing from making inputs, waiting and checking.
            start_ns, end_ns = timing.computing(start_ns, end_ns)
        self._publish(observation, tensors, request_ns, start_ns, end_ns)

    def _fresh_frames(self, now_ns: int) -> dict[str, CameraFrame] | None:
        """Return frames of every camera, newer than those used last; None if there are none yet."""
        frames = self._frames.latest()
        missing = [name for name in self._cameras if name not in frames]
        newest_ns = max((f.capture_ns for f in frames.values()), default=0)
        if missing or newest_ns <= self._used_capture_ns:
            self._frames.reopen_if_abandoned()
            self._complain_of_cameras(missing, now_ns)
            return None
        self._complete_ns = now_ns
        oldest_ns = min(f.capture_ns for f in frames.values())
        if now_ns - oldest_ns > self.config.max_image_age_s * NS_PER_S:
            self._counts["observations too old"] += 1
            raise StaleDataError(
                f"oldest image is {(now_ns - oldest_ns) / NS_PER_MS:.0f} ms old, at most "
                f"{self.config.max_image_age_s * 1000:.0f} ms allowed"
            )
        return frames

    def _complain_of_cameras(self, missing: list[str], now_ns: int) -> None:
        """Raise ``StaleDataError`` when nothing new has been there to look at for a while."""
        if now_ns - self._complete_ns < _MISSING_NS:
            return
        if missing:
            raise StaleDataError(f"no image of {', '.join(missing)}: is the camera running?")
        raise StaleDataError(
            f"no new image for {(now_ns - self._complete_ns) / NS_PER_S:.1f} s "
            f"of {', '.join(self._cameras)}"
        )

    def _publish(
        self,
        observation: Observation,
        tensors: Tensors,
        request_ns: int,
        start_ns: int,
        end_ns: int,
    ) -> None:
        is_warmup = self._latency.is_warming_up
        publish_ns = core.monotonic_ns()
        self._latency.add(publish_ns - observation.capture_oldest_ns)
        if self._last_publish_ns:
            self._period.add(publish_ns - self._last_publish_ns)
        self._last_publish_ns = publish_ns
        latency_ns = self._latency.quantile_ns(0.95)
        period_ns = max(self._period.quantile_ns(0.95), publish_ns - observation.capture_oldest_ns)
        max_age_ns = int(self._policy.max_age_s * NS_PER_S)
        valid_ns = validity_ns(max_age_ns, latency_ns, period_ns)
        self._seq += 1
        stamp = stamp_latent(
            observation,
            tensors,
            InferenceTimes(
                request_ns=request_ns, start_ns=start_ns, end_ns=end_ns, publish_ns=publish_ns
            ),
            seq=self._seq,
            validity_ns=valid_ns,
            soft_validity_ns=soft_validity_ns(valid_ns, latency_ns, period_ns),
            model_hash=self._contract.model_hash if self._contract else 0,
            declared_schema=self._contract.latent_schema_hash if self._contract else 0,
            is_warmup=is_warmup,
            is_cached=has_reused(self._policy),
            clock_id=core.clock_id(),
        )
        self._ring.write(tensors, stamp)
        self._publish_message(stamp, tensors)
        self._counts["latents"] += 1
        self._last_error = ""

    def _publish_message(self, stamp: LatencyStamp, tensors: Tensors) -> None:
        message = LatentMsg(stamp=stamp_to_msg(stamp), tensors=tensors_to_msg(tensors))
        message.header.stamp = self.ros_time(stamp.publish_ns)
        self._latent_pub.publish(message)

    def _publish_status(self) -> None:
        message = SlowStatus(policy=self.config.policy, last_error=self._last_error)
        message.header.stamp = self.ros_time(core.monotonic_ns())
        period_ns = self._period.quantile_ns(0.5)
        message.rate_hz = NS_PER_S / period_ns if period_ns else 0.0
        message.latency_ms_p50 = self._latency.quantile_ns(0.5) / NS_PER_MS
        message.latency_ms_p95 = self._latency.quantile_ns(0.95) / NS_PER_MS
        message.latents = self._counts["latents"]
        message.observations_incomplete = self._counts["observations too old"]
        self._status_pub.publish(message)


def main() -> None:
    """Run the node."""
    run_node(SlowNode)
