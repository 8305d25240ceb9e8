# SPDX-License-Identifier: GPL-2.0-or-later
"""One table of cases, two implementations: Lua inside slurmctld, Python in the broker."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from broker.adapters import state_file
from broker.domain.admission import Decision, decide_admission
from broker.domain.envelope import BadEnvelope, Envelope, parse_envelope
from tests.unit.hook import lua
from tests.unit.hook.requests import request_of

ENVELOPES = json.loads((lua.CASES / "envelopes.json").read_text("utf-8"))
ADMISSION = json.loads((lua.CASES / "admission.json").read_text("utf-8"))
LAB_STATE = (lua.CASES / "lab.state").read_text("ascii")


@pytest.mark.parametrize("case", ENVELOPES.values(), ids=ENVELOPES.keys())
def test_an_envelope_in_python(case: dict[str, Any]) -> None:
    if "error" in case:
        with pytest.raises(BadEnvelope) as caught:
            parse_envelope(case["comment"])
        assert case["error"] in str(caught.value)
    elif case["want"] is None:
        assert parse_envelope(case["comment"]) is None
    else:
        assert parse_envelope(case["comment"]) == Envelope(**case["want"])


@pytest.mark.parametrize("interpreter", lua.interpreters())
def test_envelopes_in_lua(interpreter: str) -> None:
    asked = [{"rehearse": True, "comment": case["comment"]} for case in ENVELOPES.values()]
    for (name, case), answer in zip(ENVELOPES.items(), lua.run(asked, interpreter), strict=True):
        assert "crashed" not in answer, name
        if "error" in case:
            assert case["error"] in answer.get("error", ""), name
        elif case["want"] is None:
            assert answer == {"undeclared": True}, name
        else:
            want = {"est_per_node": False, "max_per_node": False} | case["want"]
            if "power_class" in want:
                want["class"] = want.pop("power_class")
            assert answer["envelope"] == want, name


def _python(case: dict[str, Any]) -> dict[str, Any]:
    state = state_file.parse(lua.edited_state(LAB_STATE, case.get("state", {})))
    decision = decide_admission(request_of(case["job"]), state, case.get("now", lua.NOON))
    return flat(decision)


def flat(decision: Decision) -> dict[str, Any]:
    figures = decision.figures
    return {
        "verdict": str(decision.verdict),
        "reason": str(decision.reason),
        "fits": decision.fits,
        "message": decision.message,
        "lane": decision.lane,
        "tier": decision.tier,
        "managed": decision.managed,
        "partition": decision.partition,
        "reservation": decision.reservation,
        "licenses": decision.licenses,
        "est_w": figures and figures.est_w,
        "max_w": figures and figures.max_w,
        "charge_w": figures and figures.charge_w,
        "tokens_w_per_node": figures and figures.tokens_w_per_node,
        "nodes": figures and figures.nodes,
        "min_nodes": figures.nodes if figures and decision.fix_nodes else None,
    }


@pytest.mark.parametrize("case", ADMISSION.values(), ids=ADMISSION.keys())
def test_a_verdict_in_python(case: dict[str, Any]) -> None:
    got = _python(case)
    assert {key: got[key] for key in case["want"]} == case["want"]
    if "message" in case:
        assert got["message"] == case["message"]


def hook_cases(cases: list[dict[str, Any]], folder: Path) -> list[dict[str, Any]]:
    asked = []
    for index, case in enumerate(cases):
        path = folder / f"{index}.state"
        path.write_text(lua.edited_state(LAB_STATE, case.get("state", {})), "ascii")
        asked.append(
            {
                "job": dict(lua.PLAIN_JOB) | case["job"],
                "state_file": str(path),
                "spool": str(folder / f"{index}.jsonl"),
                "now": case.get("now", lua.NOON),
            }
        )
    return asked


def what_lua_said(answer: dict[str, Any], spool: Path) -> dict[str, Any]:
    """The verdict as the spool has it, with what was written into the job."""
    if not spool.exists():
        return {"managed": False}
    got: dict[str, Any] = json.loads(spool.read_text("ascii"))
    written = answer["written"] if isinstance(answer["written"], dict) else {}
    got["managed"] = True
    got["message"] = got["message"].removesuffix(" [ticket PW-TEST]")
    for key in ("partition", "reservation", "licenses", "min_nodes"):
        got[key] = written.get(key)
    assert (answer["rc"] == -1) == (got["verdict"] == "reject")
    assert (written.get("priority") == 0) == (got["verdict"] == "hold")
    return got


@pytest.mark.parametrize("interpreter", lua.interpreters())
def test_verdicts_in_lua(interpreter: str, tmp_path: Path) -> None:
    cases = list(ADMISSION.values())
    answers = lua.run(hook_cases(cases, tmp_path), interpreter)
    for index, (name, case) in enumerate(ADMISSION.items()):
        got = what_lua_said(answers[index], tmp_path / f"{index}.jsonl")
        want = {key: value for key, value in case["want"].items() if key != "fits"}
        assert {key: got[key] for key in want} == want, name
        if "message" in case:
            assert got["message"] == case["message"], name
            assert answers[index]["said"] == [case["message"] + " [ticket PW-TEST]"], name


def test_no_case_is_judged_differently(tmp_path: Path) -> None:
    cases = list(ADMISSION.values())
    answers = lua.run(hook_cases(cases, tmp_path))
    for index, (name, case) in enumerate(ADMISSION.items()):
        got = what_lua_said(answers[index], tmp_path / f"{index}.jsonl")
        want = _python(case)
        assert got["managed"] == want["managed"], name
        if want["managed"]:
            assert {key: got[key] for key in want if key != "fits"} == {
                key: value for key, value in want.items() if key != "fits"
            }, name
