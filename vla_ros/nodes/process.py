# SPDX-License-Identifier: Apache-2.0
"""How the process of a node lives and ends: signals, priority, parent, executor."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING

import rclpy
from rclpy.executors import Executor, ExternalShutdownException, SingleThreadedExecutor

import vla_ros_core as core
from vla_ros.clock import NS_PER_MS
from vla_ros.errors import VlaRosError
from vla_ros.parent_process import die_with_parent

if TYPE_CHECKING:
    from vla_ros.nodes.base import VlaNode

EXIT_REFUSED = 2
_WAKE_UP_S = 0.5
_LONG_SLICE_NS = 8 * NS_PER_MS


def set_thread_nice(nice: int) -> None:
    """Give the calling thread (and those it makes) a nice value; lowering may be forbidden."""
    try:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), nice)
    except PermissionError:
        print(f"nice value {nice} is not permitted", file=sys.stderr)  # noqa: T201


def thread_ids() -> set[int]:
    """Return the kernel's numbers of all threads of this process."""
    return {int(name) for name in os.listdir("/proc/self/task")}


def set_process_nice(nice: int, spared: Collection[int] = ()) -> None:
    """Give all threads of this process, but those ``spared``, a nice value."""
    for thread_id in thread_ids() - set(spared):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.setpriority(os.PRIO_PROCESS, thread_id, nice)


def stand_back_behind_control() -> None:
    """Give all threads of this process (and what they start) long time slices.

    Without real-time priority the control thread would otherwise wait for whoever is near the end
    of a short slice: half as many ticks are skipped. Not longer than this: the scheduler lets a
    thread save up claims of twice its slice, and the chunks come late too (50 ms: 45 ms interval).
    Kernels that know no slices ignore it.
    """
    for thread_id in thread_ids():
        core.set_thread_slice(thread_id, _LONG_SLICE_NS)


def make_executor() -> Executor:
    """Return the executor of every node.

    Not rclpy's experimental EventsExecutor, although it costs half as much: with an action server
    it crashed the process, and a callback that waits for a future made it spin a whole core
    without hearing signals (rclpy 9.1.2, both seen here). What is frequent has its own threads.
    """
    return SingleThreadedExecutor()


def run_node(node_type: type[VlaNode]) -> None:
    """Run a node until SIGINT, SIGTERM or shutdown; exit with 2 if its parameters are refused."""
    die_with_parent()
    # Before anything starts threads: they inherit it.
    set_thread_nice(max(node_type.default_nice, os.getpriority(os.PRIO_PROCESS, 0)))
    stand_back_behind_control()
    make_node: Callable[..., VlaNode] = node_type  # unlike VlaNode itself, it has its own name
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    rclpy.init(signal_handler_options=rclpy.SignalHandlerOptions.NO)
    try:
        node = make_node()
    except VlaRosError as error:
        print(f"{node_type.__name__}: {error}", file=sys.stderr)  # noqa: T201
        rclpy.try_shutdown()
        raise SystemExit(EXIT_REFUSED) from error
    executor = make_executor()
    executor.add_node(node)
    try:
        spin(executor, node, stop)
    finally:
        node.finish()
        executor.remove_node(node)
        node.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()


def spin(executor: Executor, node: VlaNode, stop: threading.Event) -> None:
    """Serve callbacks until ``stop``. One that fails is reported; the node goes on."""
    while not stop.is_set() and rclpy.ok():
        try:
            executor.spin_once(timeout_sec=_WAKE_UP_S)
        except ExternalShutdownException:
            return
        except KeyboardInterrupt:
            return
        except Exception as error:  # a bug in one callback must not take the others down
            node.report_failure(f"{type(error).__name__}: {error}")
            traceback.print_exc()
