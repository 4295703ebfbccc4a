# SPDX-License-Identifier: Apache-2.0
"""published = recorded + lost holds and equals the truth for any pattern of drops."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from vla_ros.recording.counts import (
    Disposition,
    EpisodeAccount,
    Mark,
    NodeReport,
    PublisherDirectory,
    SequenceSet,
)

TOPIC = "/joint_states"


def gid(process: int, endpoint: int = 1) -> bytes:
    return process.to_bytes(12, "little") + endpoint.to_bytes(4, "little")


def report(node: str, incarnation: str, process: int, counts: dict[str, int]) -> NodeReport:
    return NodeReport(node=node, incarnation=incarnation, gid=gid(process, 99), counts=counts)


@given(st.lists(st.integers(1, 60)), st.integers(0, 60), st.integers(0, 60))
def test_sequence_set_agrees_with_a_plain_set(numbers: list[int], after: int, last: int) -> None:
    ours, plain = SequenceSet(), set()
    for number in numbers:
        assert ours.add(number) == (number not in plain)
        plain.add(number)
    window = set(range(after + 1, last + 1))
    assert ours.count_between(after, last) == len(window & plain)
    missing = {n for a, b in ours.gaps_between(after, last) for n in range(a, b + 1)}
    assert missing == window - plain
    assert len(ours) == len(plain)
    assert ours.highest == max(plain, default=0)


@settings(max_examples=300)
@given(
    seed=st.integers(0, 2**32 - 1),
    before=st.integers(0, 20),
    inside=st.integers(0, 200),
    after=st.integers(0, 20),
    publishers=st.integers(1, 3),
    drop=st.floats(0, 1),
)
def test_identity_holds_for_any_drops(
    seed: int, before: int, inside: int, after: int, publishers: int, drop: float
) -> None:
    draw = random.Random(seed)
    directory = PublisherDirectory()
    account = EpisodeAccount(directory)
    truth_lost = truth_recorded = truth_outside = truth_duplicates = 0
    arrivals: list[tuple[bytes, int]] = []
    for p in range(1, publishers + 1):
        directory.observe_publisher(gid(p), f"/node{p}")
        directory.observe_incarnation(report(f"/node{p}", "a", p, {}))
        account.add_report(report(f"/node{p}", "a", p, {TOPIC: before}), Mark.START)
        for number in range(1, before + inside + after + 1):
            in_window = before < number <= before + inside
            if draw.random() < drop:
                truth_lost += in_window
                continue
            truth_recorded += in_window
            truth_outside += not in_window
            copies = 1 + (draw.random() < 0.1)
            truth_duplicates += copies - 1
            arrivals += [(gid(p), number)] * copies
    draw.shuffle(arrivals)
    written = sum(account.add_message(TOPIC, g, n) is Disposition.WRITE for g, n in arrivals)
    for p in range(1, publishers + 1):
        account.add_report(report(f"/node{p}", "a", p, {TOPIC: before + inside}), Mark.STOP)
    total = account.totals()[TOPIC]
    assert total.published == inside * publishers == total.recorded + total.lost
    assert (total.recorded, total.lost) == (truth_recorded, truth_lost)
    assert (total.outside, total.duplicates) == (truth_outside, truth_duplicates)
    assert total.written == written


def test_totals_with_restarted_node_sums_both_runs() -> None:
    directory = PublisherDirectory()
    directory.observe_incarnation(report("/n", "a", 1, {}))
    account = EpisodeAccount(directory)
    directory.observe_publisher(gid(1), "/n")
    account.add_report(report("/n", "a", 1, {TOPIC: 10}), Mark.START)
    for number in (11, 12, 14):
        account.add_message(TOPIC, gid(1), number)
    directory.observe_publisher(gid(2), "/n")
    for number in (1, 3):
        account.add_message(TOPIC, gid(2), number)
    account.add_report(report("/n", "b", 2, {TOPIC: 4}), Mark.STOP)
    total = account.totals()[TOPIC]
    assert (total.published, total.recorded, total.lost) == (4 + 4, 3 + 2, 1 + 2)


def test_totals_with_node_that_died_ends_at_last_number_heard() -> None:
    directory = PublisherDirectory()
    account = EpisodeAccount(directory)
    account.add_report(report("/n", "a", 1, {TOPIC: 5}), Mark.START)
    account.add_message(TOPIC, gid(1), 6)
    account.add_message(TOPIC, gid(1), 9)
    total = account.totals()[TOPIC]
    assert (total.published, total.recorded, total.lost) == (4, 2, 2)
    assert account.answered(Mark.STOP) == set()


def test_totals_with_silent_known_node_starts_at_its_next_report() -> None:
    directory = PublisherDirectory()
    directory.observe_incarnation(report("/n", "a", 1, {TOPIC: 100}))
    account = EpisodeAccount(directory)
    account.add_report(report("/n", "a", 1, {TOPIC: 150}), Mark.PERIODIC)
    account.add_message(TOPIC, gid(1), 151)
    account.add_report(report("/n", "a", 1, {TOPIC: 152}), Mark.STOP)
    total = account.totals()[TOPIC]
    assert (total.published, total.recorded, total.lost) == (2, 1, 1)


def test_totals_counts_topic_nobody_heard_as_lost() -> None:
    account = EpisodeAccount(PublisherDirectory())
    account.add_report(report("/n", "a", 1, {}), Mark.START)
    account.add_report(report("/n", "a", 1, {TOPIC: 7}), Mark.STOP)
    total = account.totals()[TOPIC]
    assert (total.published, total.recorded, total.lost) == (7, 0, 7)


def test_totals_lists_publishers_without_counts_as_uncounted() -> None:
    account = EpisodeAccount(PublisherDirectory())
    account.add_message("/rosout", gid(7), 3)
    account.add_message("/rosout", gid(7), None)
    account.add_message("/rosout", b"", None)
    total = account.totals()["/rosout"]
    assert (total.published, total.uncounted, total.written) == (0, 3, 3)


def test_latched_messages_are_written_but_not_in_the_window() -> None:
    account = EpisodeAccount(PublisherDirectory())
    account.add_report(report("/n", "a", 1, {"/tf_static": 1}), Mark.START)
    account.add_latched("/tf_static")
    account.add_report(report("/n", "a", 1, {"/tf_static": 1}), Mark.STOP)
    total = account.totals()["/tf_static"]
    assert (total.published, total.recorded, total.lost, total.written) == (0, 0, 0, 1)


def test_tail_is_complete_only_when_the_last_message_of_every_window_is_there() -> None:
    account = EpisodeAccount(PublisherDirectory())
    account.add_report(report("/n", "a", 1, {TOPIC: 0}), Mark.START)
    account.add_report(report("/n", "a", 1, {TOPIC: 2}), Mark.STOP)
    assert not account.is_tail_complete()
    account.add_message(TOPIC, gid(1), 2)
    assert account.is_tail_complete()


def test_two_nodes_of_one_process_are_told_apart_by_name() -> None:
    directory = PublisherDirectory()
    directory.observe_publisher(gid(1, 1), "/a")
    directory.observe_publisher(gid(1, 2), "/b")
    account = EpisodeAccount(directory)
    for node, endpoint, last in (("/a", 1, 3), ("/b", 2, 5)):
        account.add_report(report(node, "x", 1, {"/diagnostics": 0}), Mark.START)
        for number in range(1, last + 1):
            account.add_message("/diagnostics", gid(1, endpoint), number)
        account.add_report(report(node, "x", 1, {"/diagnostics": last}), Mark.STOP)
    total = account.totals()["/diagnostics"]
    assert (total.published, total.recorded, total.lost, total.outside) == (8, 8, 0, 0)
