# SPDX-License-Identifier: GPL-2.0-or-later
"""What an owner may change about an admitted job, and what only the broker and root may."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.unit.hook import lua
from tests.unit.hook.test_cases import LAB_STATE

PENDING, RUNNING, COMPLETED = 0, 1, 3
ADMITTED = (
    '{"v":1,"ticket":"PW-OLD","lane":"hot","tier":"silver","est_w":8000,"max_w":8000,'
    '"charge_w":8000,"tokens_w_per_node":3000,"nodes":2,"reason":"Fits"}'
)
RECORD = {
    "job_id": 13,
    "name": "job",
    "user_id": 1001,
    "user_name": "alice",
    "account": "ml",
    "partition": "hot",
    "comment": "note; power: max=8kW",
    "admin_comment": ADMITTED,
    "licenses": "matlab:1,power:3000",
    "min_nodes": 2,
    "total_nodes": 2,
    "priority": 100,
    "job_state": PENDING,
    "het_job_id": 0,
    "het_job_offset": 0,
}
HELD = {"priority": 0, "admin_comment": ADMITTED.replace('"Fits"', '"StateMissing","held":true')}


@pytest.fixture(params=lua.interpreters())
def update(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    def run(
        asked: dict[str, Any],
        rec: dict[str, Any] | None = None,
        state: str | None = LAB_STATE,
        uid: int = 1001,
    ) -> Any:
        path = tmp_path / "admission.state"
        if state is not None:
            path.write_text(state, "latin-1")
        case = {
            "job": dict(lua.PLAIN_UPDATE) | asked,
            "rec": RECORD | (rec or {}),
            "uid": uid,
            "state_file": str(path),
            "spool": str(tmp_path / "verdicts.jsonl"),
            "now": lua.NOON,
        }
        return lua.run([case], request.param)[0]

    return run


REFUSED = {
    "a running job's licences": (
        {"licenses": ""}, {"job_state": RUNNING}, "the licences of a running job carry its power"),
    "other licences of a running job": (
        {"licenses": "matlab:1"}, {"job_state": RUNNING}, "the licences of a running job"),
    "a running job's envelope": (
        {"comment": "power: max=2kW"}, {"job_state": RUNNING}, "the power envelope of a running"),
    "clearing a running job's comment": (
        {"comment": ""}, {"job_state": RUNNING}, "the power envelope of a running job"),
    "nodes of a running job": (
        {"min_nodes": 1}, {"job_state": RUNNING}, "the nodes of a running job"),
    "a suspended job's licences": (
        {"licenses": ""}, {"job_state": 2}, "the licences of a running job"),
    "a job with flags on its state": (
        {"licenses": ""}, {"job_state": RUNNING + 0x8000}, "the licences of a running job"),
    "dropping a pending job's tokens": (
        {"licenses": ""}, {}, "the licences of this job carry its power and cannot be cleared"),
    "setting them": (
        {"licenses": "matlab:1, power:1"}, {}, "licences=matlab:1, power:1: power tokens are"),
    "OR-licences": (
        {"licenses": "a|b"}, {}, "licences joined with | cannot be combined with power"),
    "more nodes than can ever be powered": (
        {"min_nodes": 12, "comment": "x"}, {}, "12 nodes at 9,200 W of tokens each can never run"),
    "an envelope with a typo": (
        {"comment": "power: max=8KW"}, {}, "max=8KW: must be a plain number"),
    "admin_comment": (
        {"admin_comment": "mine"}, {}, "admin_comment is the broker's"),
    "releasing a power hold": (
        {"priority": 4294967295}, HELD, "this job is held for power"),
    "giving a held job a priority": (
        {"priority": 100}, HELD, "this job is held for power"),
}  # fmt: skip


@pytest.mark.parametrize(("asked", "rec", "because"), REFUSED.values(), ids=REFUSED.keys())
def test_an_owner_is_refused(
    update: Any, tmp_path: Path, asked: dict[str, Any], rec: dict[str, Any], because: str
) -> None:
    answer = update(asked, rec)
    assert answer["rc"] == -1
    assert answer["written"] == {}
    assert answer["said"][0].startswith("power: change refused: " + because)
    assert answer["said"][0].endswith("[ticket PW-OLD]")
    line = json.loads((tmp_path / "verdicts.jsonl").read_text())
    assert (line["verdict"], line["call"], line["job_id"]) == ("reject", "modify", 13)


@pytest.mark.parametrize(("asked", "rec", "because"), REFUSED.values(), ids=REFUSED.keys())
@pytest.mark.parametrize("uid", [0, 998])
def test_root_and_the_broker_are_not(
    update: Any, uid: int, asked: dict[str, Any], rec: dict[str, Any], because: str
) -> None:
    answer = update(asked, rec, uid=uid)
    assert (answer["rc"], answer["said"], answer["written"]) == (0, [], {})


ALLOWED = {
    "a time limit": ({"time_limit": 5}, {}),
    "a hold": ({"priority": 0}, {}),
    "releasing a hold of one's own": ({"priority": 4294967295}, {"priority": 0}),
    "a running job's free text": (
        {"comment": "other words; power: max=8000W"}, {"job_state": RUNNING}),
    "a finished job's comment": ({"comment": "done"}, {"job_state": COMPLETED}),
    "the place it has": ({"partition": "hot", "min_nodes": 2}, {}),
    "a running job without power": (
        {"licenses": ""}, {"job_state": RUNNING, "admin_comment": None, "licenses": "matlab:1"}),
}  # fmt: skip


@pytest.mark.parametrize(("asked", "rec"), ALLOWED.values(), ids=ALLOWED.keys())
def test_an_owner_may(update: Any, asked: dict[str, Any], rec: dict[str, Any]) -> None:
    answer = update(asked, rec)
    assert (answer["rc"], answer["said"], answer["written"]) == (0, [], {})


JUDGED_AGAIN = {
    "a larger envelope": ({"comment": "power: max=12kW"}, "matlab:1,power:5000"),
    "an envelope dropped is a job undeclared": ({"comment": "plain"}, "matlab:1,power:9200"),
    "more nodes share the charge": ({"min_nodes": 4}, "matlab:1,power:1000"),
    "fewer nodes share it too": ({"min_nodes": 1}, "matlab:1,power:7000"),
    "other licences get the tokens back": ({"licenses": "ansys:3"}, "ansys:3,power:3000"),
    "the other lane": ({"partition": "cold"}, "matlab:1,power:3000"),
}


@pytest.mark.parametrize(("asked", "licenses"), JUDGED_AGAIN.values(), ids=JUDGED_AGAIN.keys())
def test_a_pending_job_is_judged_again(
    update: Any, tmp_path: Path, asked: dict[str, Any], licenses: str
) -> None:
    answer = update(asked)
    assert answer["rc"] == 0
    # admin_comment is not among them: Slurm refuses an owner's update that carries one.
    assert answer["written"] == {"licenses": licenses}
    line = json.loads((tmp_path / "verdicts.jsonl").read_text())
    assert (line["ticket"], line["call"], line["job_id"]) == ("PW-OLD", "modify", 13)


def test_a_comment_that_an_update_left_behind_does_not_keep_older_tokens(update: Any) -> None:
    answer = update({"comment": "note; power: max=8kW"}, {"licenses": "power:1"})
    assert answer["written"] == {"licenses": "power:3000"}


def test_a_held_job_stays_held_whatever_is_changed(update: Any, tmp_path: Path) -> None:
    answer = update({"comment": "power: max=6kW"}, HELD)
    assert answer["written"] == {"licenses": "matlab:1,power:2000"}
    assert json.loads((tmp_path / "verdicts.jsonl").read_text())["verdict"] == "hold"


def test_a_change_that_cannot_be_checked_is_refused(update: Any) -> None:
    answer = update({"comment": "power: max=6kW"}, state=None)
    assert answer["rc"] == -1
    assert "so the change cannot be checked; try again later" in answer["said"][0]


def test_tokens_are_guarded_without_a_state_too(update: Any) -> None:
    assert update({"licenses": ""}, {"job_state": RUNNING}, state=None)["rc"] == -1


@pytest.mark.parametrize("mode", ["observe", "off"])
def test_nothing_is_refused_while_not_enforcing(update: Any, mode: str) -> None:
    state = lua.edited_state(LAB_STATE, {"power-broker-admission": {"mode": mode}})
    answer = update({"licenses": ""}, {"job_state": RUNNING}, state=state)
    assert (answer["rc"], answer["said"]) == (0, [])


def test_a_defect_of_ours_refuses_the_change_and_raises_nothing(update: Any) -> None:
    answer = update({"comment": "x"}, {"explode": "licenses"})
    assert answer["rc"] == -1
    assert "the power check itself failed" in answer["said"][0]
