# SPDX-License-Identifier: GPL-2.0-or-later
import os
import time
from pathlib import Path

import pytest

from collectors.shard import ALL, NONE, Claim, Member, Pulse


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_process_that_runs_may_poll(clock: Clock) -> None:
    pulse = Pulse(4, clock)
    for _ in range(100):
        clock.now_s += 1
        pulse.beat()

        assert pulse.may_poll()


def test_a_process_just_woken_may_not_poll_before_anybody_noticed(clock: Clock) -> None:
    pulse = Pulse(4, clock)
    clock.now_s += 20

    assert not pulse.may_poll()


def test_only_a_renewal_asked_after_it_woke_lets_it_poll_again(clock: Clock) -> None:
    pulse = Pulse(4, clock)
    asked_before_s = clock.now_s
    clock.now_s += 20
    pulse.beat()
    pulse.renewed(asked_before_s)

    assert not pulse.may_poll()
    assert pulse.stopped

    pulse.renewed(clock.now_s)

    assert pulse.may_poll()


def test_what_is_more_than_our_part_is_given_back() -> None:
    ours, surplus = Claim(0, frozenset({1, 2, 3, 9}), quota=3, others=2).divided()

    assert (ours, surplus) == (frozenset({1, 2, 3}), frozenset({9}))


def test_a_restarted_collector_is_the_same_member(tmp_path: Path) -> None:
    first = Member(tmp_path / "spool.state")
    with pytest.raises(OSError, match="held by another powercollectord"):
        Member(tmp_path / "spool.state")
    os.close(first._lock)

    assert Member(tmp_path / "spool.state").identity == first.identity
    assert Member(tmp_path / "other.state").identity != first.identity


def test_without_postgres_one_that_was_alone_goes_on_with_all(tmp_path: Path) -> None:
    member = Member(tmp_path)
    assert member.remembered(8) == NONE

    member.remember(frozenset({1}), alone=True)
    assert member.remembered(8) == ALL


def test_without_postgres_one_of_many_goes_on_only_while_its_lease_lasted(tmp_path: Path) -> None:
    member = Member(tmp_path)
    member.remember(frozenset({1, 5}), alone=False)

    assert member.remembered(8) == {1, 5}

    an_hour_ago = time.time() - 3_600
    os.utime(tmp_path / "shares.json", (an_hour_ago, an_hour_ago))
    assert member.remembered(8) == NONE
    member.remember(frozenset({1, 5}), alone=False)
    assert member.remembered(8) == {1, 5}


def test_a_torn_memory_is_no_memory(tmp_path: Path) -> None:
    member = Member(tmp_path)
    for text in ("", "{", "[]", '{"alone": false}', '{"alone": false, "shares": 3}'):
        (tmp_path / "shares.json").write_text(text)

        assert member.remembered(8) == NONE
