# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from vla_ros.clock import NS_PER_S
from vla_ros.safety.watchdog import Watchdog


def test_silent_is_empty_until_the_limit_has_passed() -> None:
    dog = Watchdog(["/a", "/b"], NS_PER_S, now_ns=0)
    assert dog.silent(NS_PER_S) == {}
    assert set(dog.silent(NS_PER_S + 1)) == {"/a", "/b"}


def test_silent_names_only_who_was_not_heard_and_for_how_long() -> None:
    dog = Watchdog(["/a", "/b"], NS_PER_S, now_ns=0)
    dog.heard("/a", 3 * NS_PER_S)
    assert dog.silent(4 * NS_PER_S) == {"/b": pytest.approx(4.0)}


def test_node_that_is_heard_again_is_no_longer_silent() -> None:
    dog = Watchdog(["/a"], NS_PER_S, now_ns=0)
    assert dog.silent(5 * NS_PER_S)
    dog.heard("/a", 5 * NS_PER_S)
    assert dog.silent(5 * NS_PER_S) == {}


def test_names_that_nobody_expects_are_ignored() -> None:
    dog = Watchdog(["/a"], NS_PER_S, now_ns=0)
    dog.heard("/stranger", 0)
    assert set(dog.silent(9 * NS_PER_S)) == {"/a"}
