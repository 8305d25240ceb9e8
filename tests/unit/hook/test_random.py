# SPDX-License-Identifier: GPL-2.0-or-later
"""Lua and Python on random input: a difference would be a job admitted by one and refused by the
other. Each example is a batch, because starting an interpreter costs more than judging a job."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from broker.adapters import state_file
from broker.domain.admission import decide_admission
from broker.domain.envelope import BadEnvelope, parse_envelope
from tests.unit.hook import lua
from tests.unit.hook.requests import request_of
from tests.unit.hook.test_cases import LAB_STATE, flat, hook_cases, what_lua_said

_BATCH = settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

_keys = st.sampled_from(
    ["est", "max", "headroom", "tier", "class", "deadline", "preempt", "burst", "Max", "x", ""]
)
_values = st.one_of(
    st.from_regex(r"[0-9]{1,10}(\.[0-9]{0,7})?(W|kW|MW|KW| kW|)(/node|/)?", fullmatch=True),
    st.sampled_from(["gold", "silver", "bronze", "yes", "no", "training", "30s@26kW", "0s@1kW"]),
    st.from_regex(
        r"20[0-9]{2}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-6][0-9](:[0-9]{2})?", fullmatch=True
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
)
_words = st.lists(st.builds("{}={}".format, _keys, _values), max_size=5).map(" ".join)
_json_keys = st.sampled_from(
    [
        "estimatedPowerKW",
        "maxPowerKW",
        "minRackHeadroomKW",
        "priority",
        "preemptible",
        "deadline",
        "a",
    ]
)
_json_values = st.one_of(
    st.from_regex(r"-?[0-9]{1,4}(\.[0-9]{1,7})?(e3)?", fullmatch=True),
    st.sampled_from(["true", "false", "null", "NaN", '"gold"', '"24"', "{}", "[1]", '"a\\"b"', ""]),
)
_json = st.lists(st.builds('"{}":{}'.format, _json_keys, _json_values), max_size=4).map(
    lambda items: "{" + ", ".join(items) + "}"
)
_comments = st.one_of(
    st.builds("{}power:{}".format, st.sampled_from(["", "a; ", "é", "x"]), _words),
    st.builds("{}{}".format, st.sampled_from(["", "power:", "power: ", "}"]), _json),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60),
)  # fmt: skip


def _said_by_python(comment: str) -> dict[str, Any]:
    try:
        found = parse_envelope(comment)
    except BadEnvelope as bad:
        return {"error": str(bad)}
    if found is None:
        return {"undeclared": True}
    fields = {name: getattr(found, name) for name in found.__slots__}
    fields["class"] = fields.pop("power_class")
    return {"envelope": {key: value for key, value in fields.items() if value is not None}}


@_BATCH
@given(st.lists(_comments, min_size=60, max_size=120))
def test_any_comment_reads_the_same(comments: list[str]) -> None:
    answers = lua.run([{"rehearse": True, "comment": each} for each in comments])
    for comment, answer in zip(comments, answers, strict=True):
        assert answer == _said_by_python(comment), comment


_small_w = st.integers(-2_000, 60_000)
_job = st.fixed_dictionaries(
    {"min_nodes": st.sampled_from([lua.NO_VAL, 0, 1, 2, 3, 5, 8, 17])},
    optional={
        "comment": st.builds(
            "power: max={}W headroom={}W preempt={} tier={}".format,
            st.integers(1, 200_000),
            st.sampled_from([0, 0, 4_000, 20_000]),
            st.sampled_from(["yes", "no"]),
            st.sampled_from(["gold", "silver", "bronze"]),
        )
        | st.sampled_from(
            ["power: max=4kW/node est=3kW/node", "power: class=inference", "hm", "power:"]
        ),
        "partition": st.sampled_from(["hot", "cold", "hot,cold", "login", ""]),
        "num_tasks": st.integers(1, 200),
        "ntasks_per_node": st.integers(0, 8),
        "cpus_per_task": st.integers(1, 4),
        "min_cpus": st.integers(1, 200),
        "tres_per_job": st.sampled_from(["gres/gpu:16", "gres/gpu:h100:3,gres/shard:2", "gpu:x:y"]),
        "tres_per_task": st.sampled_from(["gres/gpu:1", "cpu=2,gres/gpu=2"]),
        "licenses": st.sampled_from(["a:1", "power:3,b", "a|b", " power : 2 ;c"]),
        "reservation": st.sampled_from(["pw-launch", "maint"]),
        "requeue": st.sampled_from([0, 1]),
        "script": st.just(None),
        "time_limit": st.integers(1, 400),
        "user_name": st.sampled_from(["alice", "bob"]),
        "account": st.sampled_from(["ml", "bio"]),
    },
)


@st.composite
def _states(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    edits: dict[str, dict[str, Any]] = {}
    for name in ("r1", "r2", "r3", "r4", "a", "b", "lab"):
        ever_w = draw(st.integers(0, 90_000))
        edits[f"layer {name}"] = {
            "tokens_ever_w": ever_w,
            "tokens_now_w": draw(st.just(ever_w) | _small_w),
            "nodes_now": draw(st.integers(0, 4)),
        }
    for lane in ("hot", "cold"):
        edits[f"lane {lane}"] = {"room_w": draw(st.integers(-5, 120_000))}
    if draw(st.booleans()):
        edits["reservation launch"] = {
            "slurm": "pw-launch",
            "accounts": draw(st.sampled_from(["", "ml", "ml,bio"])),
            "users": draw(st.sampled_from(["", "bob"])),
            "node_count": draw(st.integers(0, 4)),
            "tokens_now_w": draw(_small_w),
            "tokens_ever_w": draw(_small_w),
            "start": lua.NOON + draw(st.integers(-900, 900)),
            "end": lua.NOON + draw(st.integers(900, 20_000)),
            "state": draw(st.sampled_from(["active", "pending", "degraded"])),
        }
    return edits


_cases = st.fixed_dictionaries(
    {
        "job": _job,
        "state": _states(),
        "now": st.sampled_from([lua.NOON, lua.NOON + 30, lua.NOON + 31, lua.NOON + 601]),
    }
)


@_BATCH
@given(st.lists(_cases, min_size=10, max_size=40))
def test_any_job_is_judged_the_same(cases: list[dict[str, Any]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        answers = lua.run(hook_cases(cases, folder))
        for index, case in enumerate(cases):
            got = what_lua_said(answers[index], folder / f"{index}.jsonl")
            state = state_file.parse(lua.edited_state(LAB_STATE, case["state"]))
            want = flat(decide_admission(request_of(case["job"]), state, case["now"]))
            assert got["managed"] == want["managed"], case
            if want["managed"]:
                want.pop("fits")
                assert {key: got[key] for key in want} == want, case
