# SPDX-License-Identifier: GPL-2.0-or-later
"""powermgr end to end: words in, text and exit code out, over a real socket to a fake broker."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from broker.adapters.socket_server import SocketServer
from broker.cli.main import main
from broker.services.messages import Answer, Request

RACKS: list[dict[str, Any]] = [
    {"name": "r1", "row": "a", "safe_w": 32000, "burst_w": 40000, "committed_w": 9200,
     "draw_w": 9120, "reserved_w": 0, "headroom_w": 22800, "state": "ok", "age_s": 1},
    {"name": "r3", "row": "b", "safe_w": 32000, "burst_w": 40000, "committed_w": 4000,
     "draw_w": 4050, "reserved_w": 0, "headroom_w": 27950, "state": "stale", "age_s": 31},
]  # fmt: skip


@dataclass
class FakeBroker:
    """Answers what it was told to, and remembers what it was asked."""

    path: Path
    answer: Answer = field(default_factory=Answer)
    asked: list[Request] = field(default_factory=list)

    def __call__(self, request: Request) -> Answer:
        self.asked.append(request)
        return self.answer

    @property
    def last(self) -> Request:
        return self.asked[-1]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[FakeBroker]:
    fake = FakeBroker(tmp_path / "s")
    with SocketServer(fake.path, fake):
        yield fake


def powermgr(broker: FakeBroker, *words: str) -> int:
    return main(["--socket", str(broker.path), *words])


def printed(capsys: pytest.CaptureFixture[str]) -> str:
    found = capsys.readouterr()
    assert found.err == ""
    return found.out


def complained(capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """The error and the hint; nothing else is printed."""
    found = capsys.readouterr()
    assert found.out == ""
    error, _, hint = found.err.partition("\npowermgr: hint: ")
    assert error.startswith("powermgr: error: ")
    assert found.err.count("\n") == (2 if hint else 1)
    return error.removeprefix("powermgr: error: ").strip(), hint.strip()


def test_show_rack(broker: FakeBroker, capsys: pytest.CaptureFixture[str]) -> None:
    broker.answer = Answer(rows=RACKS)

    assert powermgr(broker, "show", "rack") == 0
    assert printed(capsys) == (
        "name row safe_w burst_w committed_w draw_w reserved_w headroom_w state age_s\n"
        "---- --- ------ ------- ----------- ------ ---------- ---------- ----- -----\n"
        "  r1   a  32000   40000        9200   9120          0      22800    ok     1\n"
        "  r3   b  32000   40000        4000   4050          0      27950 stale    31\n"
    )
    assert (broker.last.op, broker.last.entity, dict(broker.last.where)) == ("show", "rack", {})


SAME_WORDS = {
    "plural": ["show", "racks", "where", "name=r1", "format=name,draw_w"],
    "list": ["list", "rack", "name=r1", "format=name,draw_w"],
    "beginnings": ["sh", "rac", "na=r1", "format=nam,draw"],
    "any case": ["SHOW", "Rack", "WHERE", "NAME=R1", "FORMAT=Name,Draw_W"],
    "a bare name": ["show", "rack", "r1", "format=name,draw_w"],
    "several values": ["show", "rack", "name=r1,r2", "format=name,draw_w"],
    "a word of a state": ["show", "rack", "state=ok", "format=name,draw_w"],
    "two terms": ["show", "rack", "name=r1,r3", "row=a", "format=name,draw_w"],
}


@pytest.mark.parametrize("words", SAME_WORDS.values(), ids=SAME_WORDS.keys())
def test_sacctmgrs_ways_to_say_the_same(
    broker: FakeBroker, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    broker.answer = Answer(rows=RACKS)

    assert powermgr(broker, "-nP", *words) == 0
    assert printed(capsys) == "r1|9120\n"


def test_one_word_of_a_list_or_a_state_is_enough(
    broker: FakeBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.answer = Answer(
        rows=[
            {"name": "n01", "state": "ALLOCATED+DRAIN", "fenced": True, "job": 12},
            {"name": "n02", "state": "IDLE", "fenced": False, "job": None},
        ]
    )

    for term in (
        "state=drain",
        "state=DOWN,DRAIN",
        "state=ALLOCATED+DRAIN",
        "fenced=yes",
        "job=12",
    ):
        assert powermgr(broker, "-nP", "show", "node", term, "format=name") == 0
        assert printed(capsys) == "n01\n"


OPTIONS = {
    ("-n",): "r1 ok\n",
    ("--noheader", "-p"): "r1|ok|\n",
    ("-P",): "name|state\nr1|ok\n",
    ("--parsable2", "--noheader"): "r1|ok\n",
    ("--json",): '[\n  {\n    "name": "r1",\n    "state": "ok"\n  }\n]\n',
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("at_the_end", [False, True])
def test_options(
    broker: FakeBroker,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    at_the_end: bool,
) -> None:
    broker.answer = Answer(rows=RACKS[:1])
    words = ("show", "rack", "format=name,state")

    assert powermgr(broker, *((*words, *options) if at_the_end else (*options, *words))) == 0
    assert printed(capsys) == OPTIONS[options]


def test_terms_reach_the_broker_as_values(broker: FakeBroker) -> None:
    powermgr(broker, "show", "decision", "jobid=12,13", "start=2026-12-01T18:00Z", "limit=5")

    assert dict(broker.last.where) == {
        "jobid": [12, 13], "start": "2026-12-01T18:00:00+00:00", "limit": 5,
    }  # fmt: skip


def test_the_reservation_of_the_demo(
    broker: FakeBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.answer = Answer(message="reservation launch: 20.00 kW of rack r2 on n05,n06")

    words = "add reservation name=launch rack=r2 watts=20kW nodes=2 start=now+1minute duration=30"
    assert powermgr(broker, *words.split(), "account=ml") == 0

    assert printed(capsys) == "reservation launch: 20.00 kW of rack r2 on n05,n06\n"
    values = dict(broker.last.values)
    start, end = (datetime.fromisoformat(values.pop(key)) for key in ("start", "end"))
    assert end - start == timedelta(minutes=30)
    assert abs(start - datetime.now().astimezone() - timedelta(minutes=1)) < timedelta(seconds=30)
    assert values == {
        "name": "launch", "rack": "r2", "power_w": 20000, "nodes": 2, "accounts": ["ml"],
    }  # fmt: skip


def test_several_owners(broker: FakeBroker) -> None:
    words = "create res launch rack=r2 watts=9kW nodes=1 end=now+1hour accounts=ml,bio users=bob"

    assert powermgr(broker, "-i", *words.split()) == 0
    assert broker.last.values["accounts"] == ["ml", "bio"]
    assert broker.last.values["users"] == ["bob"]


@pytest.mark.parametrize("words", ["set mode=observe", "mode=observe", "set MODE=Observe"])
def test_modify_broker(broker: FakeBroker, words: str) -> None:
    assert powermgr(broker, "modify", "broker", *words.split()) == 0
    assert (broker.last.op, dict(broker.last.values)) == ("modify", {"mode": "observe"})


@pytest.mark.parametrize("words", ["name=launch", "where name=launch", "launch"])
def test_delete_reservation(broker: FakeBroker, words: str) -> None:
    assert powermgr(broker, "delete", "reservation", *words.split()) == 0
    assert (broker.last.op, dict(broker.last.where)) == ("delete", {"name": "launch"})


@pytest.mark.parametrize(("exit_code", "verdict"), [(0, "now"), (10, "later"), (12, "never")])
def test_feasible(
    broker: FakeBroker, capsys: pytest.CaptureFixture[str], exit_code: int, verdict: str
) -> None:
    plan = {"lane": "hot", "verdict": verdict, "nodes": 4, "charge_w": 24000, "racks": "r1"}
    broker.answer = Answer(rows=[plan], message="24.00 kW on 4 nodes", exit_code=exit_code)

    envelope = "power: est=18.5kW max=24kW"
    words = ["-N4", "-t", "1:00:00", "-p", "hot", "--account=ml", "--gpus-per-node", "8"]
    assert powermgr(broker, "feasible", envelope, *words) == exit_code

    assert dict(broker.last.values) == {
        "envelope": envelope, "nodes": 4, "time_limit_s": 3600, "partition": ["hot"],
        "account": ["ml"], "gpus_per_node": 8,
    }  # fmt: skip
    first, header, _, row = printed(capsys).splitlines()
    assert first == "24.00 kW on 4 nodes"
    assert header.split()[:2] == ["lane", "verdict"]
    assert row.split()[:2] == ["hot", verdict]


def test_the_fewest_nodes_of_a_range_decide(broker: FakeBroker) -> None:
    powermgr(broker, "feasible", "power: max=9kW", "-N", "2-4")

    assert broker.last.values["nodes"] == 2


def test_why_tells_a_story(
    broker: FakeBroker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [
        {"at": "2026-12-01T17:00:00+00:00", "event": "asked", "text": "alice: power: max=9kW"},
        {"at": None, "event": "shed", "text": "rack r2 was 1.20 kW over 32.00 kW"},
    ]
    broker.answer = Answer(rows=rows, message="job 17 (ticket t1) waits")

    assert powermgr(broker, "why", "17") == 0

    lines = printed(capsys).splitlines()
    assert lines[0] == "job 17 (ticket t1) waits"
    assert lines[1].endswith(" asked alice: power: max=9kW")
    assert lines[2].endswith(" shed  rack r2 was 1.20 kW over 32.00 kW")
    assert (broker.last.op, dict(broker.last.where)) == ("why", {"id": "17"})


def test_report_showback(broker: FakeBroker, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"account": "ml", "jobs": 2, "metered_kwh": 1.5, "reserved_kwh": 2.0,
             "unused_kwh": 0.5, "cost": 0.5},
            {"account": "Total", "jobs": 2, "metered_kwh": 1.5, "reserved_kwh": 2.0,
             "unused_kwh": 0.5, "cost": 0.5}]  # fmt: skip
    broker.answer = Answer(rows=rows, message="Total is what the racks' PDUs metered.")

    words = "report showback start=2026-11-01T00:00Z end=2026-11-02T00:00Z account=ml"
    assert powermgr(broker, *words.split()) == 0

    assert printed(capsys) == (
        "account jobs metered_kwh reserved_kwh unused_kwh cost\n"
        "------- ---- ----------- ------------ ---------- ----\n"
        "     ml    2       1.500        2.000      0.500 0.50\n"
        "  Total    2       1.500        2.000      0.500 0.50\n"
        "Total is what the racks' PDUs metered.\n"
    )
    assert dict(broker.last.where) == {
        "start": "2026-11-01T00:00:00+00:00", "end": "2026-11-02T00:00:00+00:00",
        "account": ["ml"],
    }  # fmt: skip


ADD = ["add", "res", "name=x", "rack=r2", "watts=9kW", "nodes=1"]
BAD = {
    "no words": ([], "nothing is asked"),
    "an unknown verb": (["shwo", "rack"], "cannot understand 'shwo'"),
    "no entity": (["show"], "show what?"),
    "an unknown entity": (["show", "rck"], "cannot understand 'rck'"),
    "the beginning of several entities": (["show", "r"], "cannot understand 'r'"),
    "an unknown key": (["show", "reservation", "rak=r12"], "cannot understand 'rak'"),
    "an unknown option": (["--jsn", "show", "rack"], "cannot understand '--jsn'"),
    "an unknown letter": (["-x", "show", "rack"], "cannot understand '-x'"),
    "an empty value": (["show", "rack", "name="], "name= is empty"),
    "an empty key": (["show", "rack", "=r1"], "cannot understand ''"),
    "an empty word": (["show", "rack", ""], "name= is empty"),
    "an empty verb": ([""], "cannot understand ''"),
    "a key twice": (["show", "rack", "name=r1", "name=r2"], "name is given twice"),
    "a format twice": (["show", "rack", "format=name", "format=row"], "format is given twice"),
    "an empty format": (["show", "rack", "format="], "format= is empty"),
    "a value of 100,000 characters": (
        ["show", "rack", "name=" + "r" * 100_000], "is 100,000 characters long"),
    "a key of 100,000 characters": (["show", "rack", "r" * 100_000 + "=1"], "cannot understand"),
    "not ASCII": (["show", "rack", "name=räck"], "cannot understand name='räck'"),
    "control characters": (["show", "rack", "\x1b[2J=1"], r"cannot understand '\x1b[2J'"),
    "undecodable bytes": (["show", "rack", "name=\udcff"], r"name='\udcff'"),
    "a number that is none": (["show", "job", "jobid=NaN"], "jobid='NaN'"),
    "a negative number": (["show", "job", "jobid=-1"], "jobid='-1'"),
    "sacctmgr's plus": (["show", "rack", "name+=r1"], "cannot understand 'name+'"),
    "set in show": (["show", "rack", "set", "name=r1"], "name is given twice"),
    "watts without unit": (["add", "reservation", "watts=20000"], "watts='20000'"),
    "watts below zero": (["add", "reservation", "watts=-5kW"], "watts='-5kW'"),
    "a wrong unit": (["add", "reservation", "watts=5kVA"], "watts='5kVA'"),
    "missing keys": (
        ["add", "reservation", "name=x"], "add reservation: rack, watts, nodes not given"),
    "no owner": ([*ADD, "duration=5"], "neither account nor user"),
    "no end": ([*ADD, "account=ml"], "neither end nor duration"),
    "two ends": (
        [*ADD, "account=ml", "end=now+1hour", "duration=5"], "end and duration are both given"),
    "an end before the start": (
        [*ADD, "account=ml", "start=now+2hours", "end=now+1hour"], "is not after start="),
    "a window that is over": (
        [*ADD, "account=ml", "start=now-2hours", "duration=5"], "is not after now"),
    "a mode that is none": (["modify", "broker", "set", "mode=on"], "mode='on'"),
    "modify a reservation": (
        ["modify", "reservation", "set", "x=1"], "a reservation cannot be changed with modify"),
    "delete a rack": (["delete", "rack", "r1"], "a rack cannot be changed with delete"),
    "delete everything": (["delete", "reservation"], "delete reservation: name not given"),
    "why nothing": (["why"], "why needs one ticket or job id"),
    "why with spaces": (["why", "a b"], "cannot understand 'a b'"),
    "feasible without nodes": (["feasible", "power: max=1kW"], "no number of nodes given"),
    "feasible without envelope": (["feasible", "-N4"], "no envelope given"),
    "feasible on no nodes": (["feasible", "power: max=1kW", "-N0"], "nodes='0'"),
    "feasible on nothing": (["feasible", "power: max=1kW", "-N"], "nodes= is empty"),
    "feasible twice": (["feasible", "power: max=1kW", "x", "-N4"], "a second envelope"),
    "feasible with tasks": (["feasible", "power: max=1kW", "-n4"], "cannot understand '-n'"),
    "an unknown report": (["report", "power"], "cannot understand 'power'"),
    "a report backwards": (
        ["report", "showback", "start=now", "end=now-1day"], "is not before end="),
    "a socket without path": (["show", "rack", "--socket"], "--socket needs a path"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_bad_words_get_one_clear_line_and_exit_2(
    broker: FakeBroker, capsys: pytest.CaptureFixture[str], case: tuple[list[str], str]
) -> None:
    words, said = case

    assert powermgr(broker, *words) == 2

    error, hint = complained(capsys)
    assert said in error
    assert len(error) < 200
    assert len(hint) < 200
    assert broker.asked == []


def test_a_typo_is_answered_with_what_is_possible(
    broker: FakeBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    powermgr(broker, "show", "reservation", "rak=r12")

    assert complained(capsys) == (
        "cannot understand 'rak'",
        "did you mean rack? expected one of name, rack, nodes, account, user, state",
    )


def test_the_brokers_refusals_keep_their_words_and_code(
    broker: FakeBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.answer = Answer.refused("rack r2: only 9.20 kW left", hint="ask for less", exit_code=3)

    assert powermgr(broker, "modify", "broker", "mode=off") == 3
    assert complained(capsys) == ("rack r2: only 9.20 kW left", "ask for less")


def test_no_broker_is_one_line_and_exit_1(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--socket", str(tmp_path / "none"), "show", "rack"]) == 1
    assert complained(capsys) == (
        f"powerbrokerd does not answer at {tmp_path}/none: No such file or directory",
        "",
    )


def test_the_manual_names_every_entity_and_column(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    page = printed(capsys)
    assert page.startswith("NAME\n       powermgr - ")
    assert all(word in page for word in ("headroom_w", "reservation", "EXIT STATUS", "now+1minute"))
    assert max(len(line) for line in page.splitlines()) <= 100


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert printed(capsys).startswith("powermgr ")


def started(broker: FakeBroker, *words: str, **how: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", "import sys; from broker.cli.main import main; sys.exit(main())",
         "--socket", str(broker.path), *words],
        text=True, stderr=subprocess.PIPE, **how,
    )  # fmt: skip


@pytest.mark.parametrize("times", [1, 5000])  # with one, the failure comes at the last flush
def test_a_reader_that_goes_away_is_no_error(broker: FakeBroker, times: int) -> None:
    broker.answer = Answer(rows=RACKS * times)
    read_end, write_end = os.pipe()
    os.close(read_end)

    with started(broker, "show", "rack", stdout=write_end) as process:
        os.close(write_end)
        _, errors = process.communicate(timeout=30)

    assert (process.returncode, errors) == (141, "")


def test_a_full_disk_is_one_line(broker: FakeBroker) -> None:
    broker.answer = Answer(rows=RACKS)
    with (
        Path("/dev/full").open("w") as full,
        started(broker, "show", "rack", stdout=full) as process,
    ):
        _, errors = process.communicate(timeout=30)

    assert process.returncode == 1
    assert errors == "powermgr: error: cannot write: No space left on device\n"


def test_a_closed_stdout_is_no_traceback(broker: FakeBroker) -> None:
    broker.answer = Answer(rows=RACKS)
    script = "import sys; from broker.cli.main import main; sys.exit(main())"
    command = 'exec "$0" -c "$1" --socket "$2" show rack >&-'

    done = subprocess.run(
        ["/bin/sh", "-c", command, sys.executable, script, str(broker.path)],
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stderr) == (0, "")


def test_what_the_terminal_cannot_show_is_escaped(broker: FakeBroker) -> None:
    broker.answer = Answer(rows=[{"name": "räck"}])
    ascii_only = {**os.environ, "PYTHONIOENCODING": "ascii"}

    with started(
        broker, "-n", "show", "rack", "format=name", stdout=subprocess.PIPE, env=ascii_only
    ) as process:
        out, errors = process.communicate(timeout=30)

    assert (process.returncode, out, errors) == (0, "r\\xe4ck\n", "")


@pytest.mark.parametrize(
    ("typed", "options", "exit_code", "changed"),
    [("y\n", [], 0, 1), ("n\n", [], 1, 0), ("\n", [], 1, 0), ("", ["-i"], 0, 1)],
)
def test_at_a_terminal_it_asks_first(
    broker: FakeBroker, typed: str, options: list[str], exit_code: int, changed: int
) -> None:
    broker.answer = Answer(message="gone")
    keyboard, terminal = pty.openpty()
    words = [*options, "delete", "reservation", "name=launch"]
    with started(broker, *words, stdin=terminal, stdout=subprocess.PIPE) as process:
        os.write(keyboard, typed.encode())
        out, errors = process.communicate(timeout=30)
    os.close(keyboard)
    os.close(terminal)

    assert (process.returncode, errors, len(broker.asked)) == (exit_code, "", changed)
    assert ("Would you like to commit changes? (You have 30 seconds" in out) == (not options)
    assert out.endswith("gone\n" if changed else " Changes Discarded\n")


def test_json_of_a_change_is_an_array(
    broker: FakeBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    broker.answer = Answer(message="done", rows=[{"mode": "off", "generation": 7}])

    powermgr(broker, "--json", "modify", "broker", "mode=off")

    (row,) = json.loads(printed(capsys))
    assert (row["mode"], row["generation"]) == ("off", 7)
