# SPDX-License-Identifier: Apache-2.0
"""Time slices of ordinary threads, which decide who runs first without privileges."""

from __future__ import annotations

import os
import threading

import pytest

import vla_ros_core as core


def test_a_slice_leaves_the_nice_value_alone() -> None:
    """Asking for a slice goes through the call that also sets the nice value."""
    seen: list[int] = []

    def ask() -> None:
        thread_id = threading.get_native_id()
        os.setpriority(os.PRIO_PROCESS, thread_id, 7)
        core.set_thread_slice(thread_id, 8_000_000)
        seen.append(os.getpriority(os.PRIO_PROCESS, thread_id))

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert seen == [7]


def test_a_thread_that_does_not_exist_is_refused_quietly() -> None:
    """Threads end between being listed and being asked about."""
    assert core.set_thread_slice(2**22 - 1, 8_000_000) is False


@pytest.mark.parametrize("wish", ["", "high", "FIFO"])
def test_unknown_priorities_are_refused(wish: str) -> None:
    """Names the choices."""
    with pytest.raises(core.Error, match="auto, fifo, normal, none"):
        core.raise_thread_priority(wish)
