# SPDX-License-Identifier: GPL-2.0-or-later
"""The hook around the rules: modes, a state that is gone, the spool, tickets, defects, speed."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.unit.hook import lua
from tests.unit.hook.test_cases import LAB_STATE

NODE = {"idle_w": 1000, "max_w": 10200, "gpus": 8, "cpus": 8}


@pytest.fixture(params=lua.interpreters())
def submit(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Submits jobs one after another in one interpreter; each may change the state first."""

    def run(*jobs: dict[str, Any], state: str | None = LAB_STATE, **more: Any) -> Any:
        path = tmp_path / "admission.state"
        if state is not None:
            path.write_text(state, "latin-1")
        case = {
            "state_file": str(path),
            "spool": str(tmp_path / "verdicts.jsonl"),
            "now": lua.NOON,
        } | more
        answers = lua.run(
            [case | {"job": dict(lua.PLAIN_JOB) | {"min_nodes": 1} | job} for job in jobs or ({},)],
            request.param,
        )
        return answers[0] if len(answers) == 1 else answers

    return run


def _spool(folder: Path) -> list[dict[str, Any]]:
    path = folder / "verdicts.jsonl"
    return (
        [json.loads(line) for line in path.read_text("ascii").splitlines()] if path.exists() else []
    )


def test_the_job_carries_its_tokens_and_its_admitted_envelope(submit: Any) -> None:
    written = submit({"min_nodes": 4, "comment": "power: est=18.5kW max=24kW tier=gold"})["written"]
    assert written["licenses"] == "power:5000"
    assert written["admin_comment"] == (
        '{"v":1,"ticket":"PW-TEST","lane":"hot","tier":"gold","est_w":18500,"max_w":24000,'
        '"charge_w":24000,"tokens_w_per_node":5000,"nodes":4,"reason":"Fits"}'
    )


def test_every_verdict_is_spooled(submit: Any, tmp_path: Path) -> None:
    submit({"name": 'a "job"\n\x07é'}, {"min_nodes": 12})
    accepted, rejected = _spool(tmp_path)
    assert accepted == {
        "v": 1, "ticket": "PW-TEST", "at": lua.NOON, "user": "alice", "uid": 1001, "account": "ml",
        "partition": None, "job_name": 'a "job"\n\x07??', "verdict": "accept", "reason": "Fits",
        "lane": "hot", "tier": "silver", "est_w": 10200, "max_w": 10200, "charge_w": 10200,
        "tokens_w_per_node": 9200, "nodes": 1, "generation": 7, "call": "submit", "job_id": None,
        "message": "power: job accepted on hot: charged 10.20 kW on 1 node (9,200 W tokens a node),"
        " fits now [ticket PW-TEST]",
    }  # fmt: skip
    assert (rejected["verdict"], rejected["reason"]) == ("reject", "ExceedsSafeLimit")


def test_observing_changes_nothing_and_says_nothing_to_the_user(
    submit: Any, tmp_path: Path
) -> None:
    state = lua.edited_state(LAB_STATE, {"power-broker-admission": {"mode": "observe"}})
    answer = submit({"min_nodes": 12, "licenses": "power:1"}, state=state)
    assert (answer["rc"], answer["said"], answer["written"]) == (0, [], {})
    assert "observing" in answer["logged"][0]
    assert _spool(tmp_path)[0]["verdict"] == "reject"


def test_off_is_off(submit: Any, tmp_path: Path) -> None:
    state = lua.edited_state(LAB_STATE, {"power-broker-admission": {"mode": "off"}})
    answer = submit({"min_nodes": 12}, state=state, now=lua.NOON + 100_000)
    assert (answer["rc"], answer["said"], answer["written"]) == (0, [], {})
    assert _spool(tmp_path) == []


BROKEN = {
    "missing": None,
    "empty": "",
    "torn": LAB_STATE[: len(LAB_STATE) // 2],
    "without its end": LAB_STATE.replace("end generation=7\n", ""),
    "with the end of another": LAB_STATE.replace("end generation=7", "end generation=6"),
    "of another version": LAB_STATE.replace("version=1", "version=2"),
    "foreign": "while true do end\n",
    "of garbage": "\x00\xff\xfe" * 1000,
    "too large": LAB_STATE.replace("end gen", "#" * 70_000 + "\nend gen"),
    "with words for numbers": LAB_STATE.replace("room_w=108000", "room_w=lots"),
    "without racks": LAB_STATE.replace("kind=rack", "kind=row"),
}


@pytest.mark.parametrize("state", BROKEN.values(), ids=BROKEN.keys())
def test_a_state_that_cannot_be_read_holds_the_job(submit: Any, state: str | None) -> None:
    answer = submit({"licenses": "power:1,matlab"}, state=state)
    assert answer["rc"] == 0
    assert answer["written"]["priority"] == 0
    assert answer["written"]["licenses"] == "matlab"
    assert '"reason":"StateMissing","held":true' in answer["written"]["admin_comment"]
    assert answer["said"][0].startswith(
        "power: job accepted but held: the power state cannot be read"
    )


def test_a_held_job_has_its_tokens_where_the_site_said_what_a_node_draws(submit: Any) -> None:
    written = submit({"comment": "power: max=6kW"}, state=None, config={"node": NODE})["written"]
    assert (written["priority"], written["licenses"]) == (0, "power:5000")


def test_a_site_may_reject_or_accept_without_a_state(submit: Any) -> None:
    rejected = submit(state=None, config={"when_missing": "reject"})
    assert rejected["rc"] == -1
    assert "try again later [ticket PW-TEST]" in rejected["said"][0]
    accepted = submit(state=None, config={"when_missing": "accept", "node": NODE})
    assert (accepted["rc"], accepted["written"]["licenses"]) == (0, "power:9200")
    assert "priority" not in accepted["written"]


def test_accepting_without_knowing_a_node_is_holding(submit: Any) -> None:
    assert submit(state=None, config={"when_missing": "accept"})["written"]["priority"] == 0


def test_other_partitions_are_left_alone_without_a_state(submit: Any) -> None:
    answer = submit({"partition": "login"}, state=None, config={"partitions": ["hot", "cold"]})
    assert (answer["said"], answer["written"]) == ([], {})


def test_a_bad_envelope_is_rejected_without_a_state_too(submit: Any) -> None:
    answer = submit({"comment": "power: max=24KW"}, state=None)
    assert answer["rc"] == -1
    assert "max=24KW: must be" in answer["said"][0]


def test_a_cluster_that_only_observed_does_not_hold_when_the_file_goes(tmp_path: Path) -> None:
    path = tmp_path / "observing.state"
    path.write_text(lua.edited_state(LAB_STATE, {"power-broker-admission": {"mode": "observe"}}))
    case = {"state_file": str(path), "spool": str(tmp_path / "spool"), "now": lua.NOON}
    first = case | {"job": dict(lua.PLAIN_JOB)}
    then = case | {"job": dict(lua.PLAIN_JOB), "keep_config": True, "without_file": True}
    assert [answer["written"] for answer in lua.run([first, then])] == [{}, {}]
    assert not path.exists()


def test_the_default_partition_is_slurms(submit: Any, tmp_path: Path) -> None:
    login = {"login": {"flag_default": 1}, "hot": {"flag_default": 0}}
    assert submit(part_list=login)["written"] == {}
    hot = {"login": {"flag_default": 0}, "cold": {"flag_default": 1}}
    assert '"lane":"cold"' in submit(part_list=hot)["written"]["admin_comment"]


def test_cpus_of_a_node_come_from_the_partition_where_the_state_is_silent(submit: Any) -> None:
    state = LAB_STATE.replace(" cpus=8", "")
    job = {"min_nodes": lua.NO_VAL, "num_tasks": 16, "min_cpus": 16}
    parts = {"hot": {"flag_default": 1, "total_cpus": 64, "total_nodes": 16}}
    assert submit(job, state=state, part_list=parts)["written"]["min_nodes"] == 4
    answer = submit(job, state=state)
    assert (
        "the number of nodes cannot be worked out (CPUs of a node are not known); give -N"
        in (answer["said"][0])
    )


def test_a_spool_that_cannot_be_written_costs_no_job_and_one_line(
    submit: Any, tmp_path: Path
) -> None:
    answer = submit(spool=str(tmp_path / "no" / "such" / "folder"))
    assert (answer["rc"], answer["written"]["licenses"]) == (0, "power:9200")
    assert len(answer["logged"]) == 1
    assert "verdicts are not recorded" in answer["logged"][0]
    again = submit({}, {}, {}, spool=str(tmp_path / "no" / "such"), keep_quiet=True)
    assert sum(len(each["logged"]) for each in again) == 1


def test_a_defect_of_ours_holds_the_job_and_raises_nothing(submit: Any) -> None:
    answer = submit({"explode": "user_name"})
    assert (answer["rc"], answer["written"]["priority"]) == (0, 0)
    assert "held" in answer["said"][0]
    assert "a defect: " in answer["logged"][0]


def test_a_percent_sign_is_no_format(submit: Any) -> None:
    answer = submit({"comment": "power: class=%s%n%d"})
    assert "class=%s%n%d: must be a name" in answer["said"][0]


def test_what_the_site_wrote_into_admin_comment_is_kept_as_a_note(submit: Any) -> None:
    written = submit({"admin_comment": "cost centre 7"})["written"]
    assert json.loads(written["admin_comment"])["note"] == "cost centre 7"
    long = submit({"admin_comment": "x" * 1000})["written"]["admin_comment"]
    assert len(long) <= 1024
    assert "note" not in json.loads(long)


def test_licences_that_slurm_would_refuse_are_refused_in_words(submit: Any) -> None:
    answer = submit({"licenses": ",".join(f"licence{n}" for n in range(120))})
    assert "the licences are longer than 1,024 bytes; name fewer" in answer["said"][0]


def test_a_long_comment_is_refused_before_it_is_parsed(submit: Any) -> None:
    answer = submit({"comment": "power: " + "est=1kW " * 100_000})
    assert "comment=800007 bytes: must be at most 1,024 bytes long" in answer["said"][0]


def test_tickets_are_short_and_differ(tmp_path: Path) -> None:
    script = tmp_path / "tickets.lua"
    script.write_text(
        f'package.path = "{lua.PLUGIN}/?.lua"\nlocal t = require("power_broker.ticket")\n'
        "for _ = 1, 2000 do print(t.new(1800000000)) end\n"
    )
    runs = [subprocess.check_output(["lua5.1", str(script)], text=True).split() for _ in range(2)]
    tickets = runs[0] + runs[1]
    assert len(set(tickets)) == len(tickets)
    assert all(len(each) <= 20 and each.startswith("PW-") for each in tickets)


def test_a_64_kilobyte_state_is_read_and_judged(tmp_path: Path) -> None:
    layer = (
        "layer name=r{0} kind=rack safe_w=32000 nodes=4 tokens_ever_w=28000 tokens_now_w=28000"
        " nodes_now=4 fenced=0 parents=a,lab\n"
    )
    head, end = LAB_STATE.split("end generation", 1)
    racks = "".join(layer.format(n) for n in range(100, 1000))
    state = (head + racks)[:65_400].rsplit("\n", 1)[0] + "\nend generation" + end
    assert 60_000 < len(state) <= 65_536
    cases = []
    path = tmp_path / "large.state"
    path.write_text(state)
    place = {"state_file": str(path), "spool": str(tmp_path / "s"), "now": lua.NOON}
    cases.append(place | {"job": dict(lua.PLAIN_JOB) | {"min_nodes": 8}})
    answers, _ = lua.timed(cases)
    assert all(answer["written"]["licenses"] == "power:9200" for answer in answers)
