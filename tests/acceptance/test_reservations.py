# SPDX-License-Identifier: GPL-2.0-or-later
"""Power reservations in a real Slurm: kept for their owner, refused with numbers, given back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.acceptance import head, oracle

pytestmark = pytest.mark.lab

ADD = ("-i", "add", "reservation", "start=now", "duration=30", "account=ml")


def test_an_outsider_is_kept_out_of_reserved_watts_until_they_are_given_back() -> None:
    with oracle.watching():
        _reserve("launch", rack="r2", watts="20kW", nodes=2)
        kept = set(oracle.expand(head.slurm_reservations()["pw-launch"]))
        one, two = sorted(set(_nodes_of("r2")) - kept)
        insider = head.submit(
            "alice",
            "-N2",
            "--comment=power: max=20kW tier=gold",
            load="9kW",
            script="srun -Q sleep 600",
        )
        # 28 kW of tokens less 18 kW reserved: 10 kW are left for the two other nodes.
        first = head.submit("bob", "-w", one, "--comment=power: max=10kW")
        head.wait_running(insider, first)
        second = head.submit("bob", "-w", two, "--comment=power: max=10kW")
        assert head.job_field(insider, "Reservation") == "pw-launch"
        head.wait_cycles(2)
        (row,) = [each for each in head.rows("show", "reservation") if each["state"] == "active"]
        assert (row["name"], row["used_w"]) == ("launch", 20_000)

        head.run("scancel", str(insider))
        head.wait("the insider to end", lambda: not head.state(insider))
        head.stays("the second waits", lambda: not head.is_running(second), for_s=5)
        assert head.powermgr("-i", "delete", "reservation", "name=launch").status == 0
        head.wait_running(second)
    assert "pw-launch" not in head.slurm_reservations()


def test_more_than_a_rack_can_promise_is_refused_with_the_numbers() -> None:
    done = head.powermgr(*ADD, "name=greedy", "rack=r2", "watts=36kW", "nodes=4")
    assert done.status == 1
    assert "rack r2: 32000 W above idle asked, 28000 W of 28000 W can still be reserved" in done.err
    done = head.powermgr(*ADD, "name=odd", "rack=r2", "watts=30kW", "nodes=2")
    assert done.status == 1
    assert "20.40 kW" in done.err
    assert not _open()


def test_of_many_who_want_the_same_watts_at_once_as_many_get_them_as_there_are() -> None:
    def add(number: int) -> int:
        name = f"name=rush{number}"
        return head.powermgr(*ADD, name, "rack=r1", "watts=15kW", "nodes=2").status

    # 13 kW of tokens each: two fit into a rack's 28 kW, a third does not, and has no node left.
    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(add, range(4))) == [0, 0, 1, 1]
    assert len(_open()) == 2
    head.wait(
        "both in Slurm", lambda: {f"pw-{n}" for n in _open()} <= set(head.slurm_reservations())
    )


def test_two_who_want_the_last_watts_at_once_are_one_who_gets_them() -> None:
    def add(name: str) -> int:
        return head.powermgr(*ADD, f"name={name}", "rack=r3", "watts=18kW", "nodes=2").status

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(add, ("first", "second"))) == [0, 1]


@pytest.mark.parametrize(
    "words",
    [
        (*ADD, "name=mine", "rack=r1", "watts=10kW", "nodes=1"),
        ("-i", "delete", "reservation", "name=launch"),
        ("-i", "modify", "broker", "mode=off"),
    ],
    ids=["add", "delete", "mode"],
)
def test_a_normal_user_may_change_nothing(words: tuple[str, ...]) -> None:
    done = head.powermgr(*words, user="alice")
    assert (done.status, "user alice may not" in done.err) == (3, True), done.text
    assert head.powermgr("show", "rack", user="alice").status == 0


def _reserve(name: str, *, rack: str, watts: str, nodes: int) -> None:
    done = head.powermgr(*ADD, f"name={name}", f"rack={rack}", f"watts={watts}", f"nodes={nodes}")
    assert done.status == 0, done.text
    head.wait(
        f"reservation {name} to be active",
        lambda: any(
            row["name"] == name and row["state"] == "active"
            for row in head.rows("show", "reservation")
        ),
    )


def _open() -> list[str]:
    return [
        row["name"]
        for row in head.rows("show", "reservation")
        if row["state"] in {"pending", "active"}
    ]


def _nodes_of(rack: str) -> list[str]:
    return [row["name"] for row in head.rows("show", "node") if row["rack"] == rack]
