# SPDX-License-Identifier: GPL-2.0-or-later
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from collectors import probe, profile_check
from collectors.main import main
from tests.support.recordings import SYS_DESCR, SYS_OBJECT_ID, SYS_UP_TIME, DictionaryAgent

KEYS = [
    "profile",
    "sys_object_id",
    "description",
    "active_power_w",
    "apparent_power_va",
    "power_factor",
    "energy_kwh",
    "inlets",
    "phases",
    "branches",
    "outlets",
    "sensors",
    "quality",
    "notes",
]
TREE = "1.3.6.1.4.1.318.1.1.26"
A_PDU = {
    SYS_OBJECT_ID: "1.3.6.1.4.1.318.1.3.4.6",
    SYS_DESCR: b"Web/SNMP Management Card",
    SYS_UP_TIME: 1,
    f"{TREE}.4.3.1.5.1": 138,
    f"{TREE}.4.3.1.9.1": 19_677,
    f"{TREE}.4.3.1.16.1": 150,
    f"{TREE}.6.3.1.5.1": 65,
    f"{TREE}.6.3.1.6.1": 231,
    f"{TREE}.9.2.3.1.5.1": 2,
    f"{TREE}.9.2.3.1.5.2": 1,
}
Serve = Callable[[DictionaryAgent], DictionaryAgent]


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Serve:
    def now(agent: DictionaryAgent) -> DictionaryAgent:
        monkeypatch.setattr(probe, "snmp_engine", lambda name, attempts: lambda target: agent)
        return agent

    return now


def test_the_json_object_has_exactly_the_keys_promised(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(DictionaryAgent(A_PDU))

    assert main(["probe", "snmp://public@127.0.0.1:16100", "--json"]) == 0

    shown = json.loads(capsys.readouterr().out)
    assert list(shown) == KEYS
    assert (shown["profile"], shown["active_power_w"], shown["energy_kwh"]) == (
        "apc-rpdu2",
        1380,
        1967.7,
    )
    assert shown["phases"] == [{"name": "L1", "current_a": 6.5, "voltage_v": 231}]
    assert shown["outlets"] == [{"name": "1", "on": True}, {"name": "2", "on": False}]
    assert (shown["quality"], shown["power_factor"]) == ("good", 0.92)


def test_the_table_shows_rows_with_their_units(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(DictionaryAgent(A_PDU))

    assert probe.main(["snmp://public@127.0.0.1"]) == 0

    shown = capsys.readouterr().out
    assert "active_power_w     1380\n" in shown
    assert "phases (1):\n  name  current_a  voltage_v\n    L1        6.5        231\n" in shown


def test_an_unknown_device_exits_3_and_lists_what_it_answered(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    values: dict[str, object] = {SYS_OBJECT_ID: "1.3.6.1.4.1.9.1.7", SYS_DESCR: b"a switch"}
    values |= {f"1.3.6.1.4.1.9.2.{n}": n for n in range(5)}
    serve(DictionaryAgent(values))

    assert probe.main(["snmp://hidden@127.0.0.1", "--json"]) == 3

    said = capsys.readouterr()
    assert json.loads(said.out) == {
        "sys_object_id": "1.3.6.1.4.1.9.1.7",
        "description": "a switch",
        "answered": [{"subtree": "1.3.6.1.4.1.9.2", "objects": 5}],
        "note": "",
    }
    assert said.err == "powercollectord: snmp://127.0.0.1: no profile fits this device\n"


def test_a_silent_device_exits_1_with_the_reason(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    serve(DictionaryAgent({}))

    assert probe.main(["snmp://hidden@127.0.0.1"]) == 1
    assert capsys.readouterr().err == "powercollectord: snmp://127.0.0.1: timed out after 1.5 s\n"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1", "expected one of snmp://, snmp3://, ipmi://, redfish://"),
        ("snmp://", "and a host"),
        ("snmp://public@127.0.0.1:99999", "out of range"),
        ("redfish://me:word@127.0.0.1", "a password belongs in secrets.toml"),
        ("snmp3://me@127.0.0.1", "No such file"),
    ],
)
def test_a_mistake_in_the_command_exits_2(
    url: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert probe.main([url, "--secrets", str(tmp_path / "none.toml")]) == 2

    shown = capsys.readouterr().err
    assert said in shown
    assert "word@" not in shown


def test_a_secrets_file_that_others_may_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "secrets.toml"
    path.write_text('[ipmi]\nuser = "u"\npassword = "p"\n')
    path.chmod(0o644)

    assert probe.main(["ipmi://127.0.0.1", "--secrets", str(path)]) == 2
    assert "mode 0644 lets others read it" in capsys.readouterr().err


def test_an_unknown_login_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "secrets.toml"
    path.write_text('[ipmi]\nuser = "u"\npassword = "p"\n')
    path.chmod(0o600)

    assert probe.main(["redfish://me@127.0.0.1", "--secrets", str(path)]) == 2
    assert "no [redfish.me] in" in capsys.readouterr().err


PROFILE = """
description = "a new one"
sys_object_ids = ["1.3.6.1.4.1.9"]
probe = ["1.3.6.1.4.1.9.1"]
[totals]
active_power_w = [{ object = { oid = "1.3.6.1.4.1.9.1" } }]
[[tables]]
kind = "phase"
[tables.columns]
voltage_v = { oid = "1.3.6.1.4.1.9.2" }
current_a = { oid = "1.3.6.1.4.1.9.3" }
power_w = { oid = "1.3.6.1.4.1.9.4" }
"""
WALK = """\
1.3.6.1.2.1.1.2.0|6|1.3.6.1.4.1.9.5
1.3.6.1.4.1.9.1.0|2|{power}
1.3.6.1.4.1.9.2.1|66|230
1.3.6.1.4.1.9.3.1|66|6
"""


@pytest.mark.parametrize(("power", "status"), [(1300, 0), (130, 1), (13_000, 1)])
def test_profile_check_shows_what_is_read_and_what_is_missing(
    power: int, status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, walk = tmp_path / "new.toml", tmp_path / "walk.snmprec"
    file.write_text(PROFILE)
    walk.write_text(WALK.format(power=power))

    assert main(["profile", "check", str(file), "--against", str(walk)]) == status

    said = capsys.readouterr()
    assert f"active_power_w     {power}\n" in said.out
    assert "phase.power_w 1.3.6.1.4.1.9.4: nothing there in this recording" in said.err
    assert ("its scale is not believed" in said.out) is bool(status)


def test_profile_check_names_what_is_wrong_in_the_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, walk = tmp_path / "new.toml", tmp_path / "walk.snmprec"
    file.write_text(PROFILE + 'colour = "red"\n')
    walk.write_text(WALK.format(power=1))

    assert profile_check.main(["check", str(file), "--against", str(walk)]) == 2
    assert "colour" in capsys.readouterr().err


def test_profile_check_exits_3_for_another_family(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, walk = tmp_path / "new.toml", tmp_path / "walk.snmprec"
    file.write_text(PROFILE)
    walk.write_text("1.3.6.1.2.1.1.2.0|6|1.3.6.1.4.1.8072\n")

    assert profile_check.main(["check", str(file), "--against", str(walk)]) == 3
    assert "none of `probe` answers" in capsys.readouterr().err


def test_the_daemon_does_not_load_the_probe() -> None:
    import subprocess

    code = "import collectors.main, sys; print('collectors.probe' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
