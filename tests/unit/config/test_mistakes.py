# SPDX-License-Identifier: GPL-2.0-or-later
"""Whatever is wrong in a file is one line: the file, the key, the value, what is allowed."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

import pytest

from broker.config.inventory import load_inventory
from broker.config.policy import load_policy
from broker.config.settings import load_settings
from broker.daemon.main import main
from broker.domain.errors import ConfigInvalid

ETC = Path(__file__).resolve().parents[3] / "etc"
N01 = '[nodes.n01]\nrack = "r1"'

# name: (file, what is replaced, by what, what the line says)
MISTAKES = {
    "a typo in a key": (
        "inventory",
        "operator_limit_w = 135000 #",
        "operator_limt_w = 135000 #",
        r"site\.operator_limt_w = 135000: unknown key; .*did you mean operator_limit_w\?",
    ),
    "a typo below a table of names": (
        "inventory",
        'redundancy = "failover"',
        'redundncy = "failover"',
        r'racks\.r1\.redundncy = "failover": unknown key; .*did you mean redundancy\?',
    ),
    "a typo in a table": ("policy", "[hook]", "[hok]", r"hok = .*did you mean hook\?"),
    "a negative limit": (
        "inventory",
        "operator_limit_w = 40000",
        "operator_limit_w = -40000",
        r"racks\.r1\.operator_limit_w = -40000: .*greater than 0",
    ),
    "no watts at all": (
        "inventory",
        "operator_limit_w = 40000",
        "operator_limit_w = 0",
        r"racks\.r1\.operator_limit_w = 0: .*greater than 0",
    ),
    "a limit of a thousand gigawatts": (
        "inventory",
        "operator_limit_w = 40000",
        "operator_limit_w = 1000000000000",
        r"racks\.r1\.operator_limit_w = 1000000000000: .*less than or equal to 1000000000",
    ),
    "a limit with a fraction": (
        "inventory",
        "operator_limit_w = 40000",
        "operator_limit_w = 40000.5",
        r"racks\.r1\.operator_limit_w = 40000.5: .*valid integer",
    ),
    "a limit in words": (
        "inventory",
        "operator_limit_w = 40000",
        'operator_limit_w = "40kW"',
        r'racks\.r1\.operator_limit_w = "40kW": must be a plain number',
    ),
    "a number in quotes": (
        "inventory",
        "breaker_rating_a = 80",
        'breaker_rating_a = "80"',
        r'racks\.r1\.feeds\.A\.breaker_rating_a = "80": must be a plain number',
    ),
    "a truth for a number": (
        "inventory",
        "phases = 3",
        "phases = true",
        r"racks\.r1\.feeds\.A\.phases = true: must be a plain number",
    ),
    "two phases": (
        "inventory",
        "phases = 3",
        "phases = 2",
        r"racks\.r1\.feeds\.A\.phases = 2: .*1 or 3",
    ),
    "a power factor that is no number": (
        "inventory",
        "power_factor = 0.95",
        "power_factor = nan",
        r"site\.power_factor = nan: .*finite",
    ),
    "an infinite margin": ("inventory", "margin = 0.20", "margin = inf", r"site\.margin = inf: "),
    "all of it margin": (
        "inventory",
        "margin = 0.20",
        "margin = 1",
        r"site\.margin = 1: .*less than 1",
    ),
    "a derating above one": (
        "inventory",
        "derating = 0.80",
        "derating = 80",
        r"racks\.r1\.feeds\.A\.derating = 80: .*less than or equal to 1",
    ),
    "a node in two racks": (
        "inventory",
        N01,
        '[nodes.n01]\nrack = "r2"\ntype = "h100x8"\n\n' + N01,
        r"given twice \(a node stands in one rack.*nodes.*n01.*\[nodes.n01\]",
    ),
    "a node with two racks": (
        "inventory",
        N01,
        N01 + '\nrack = "r2"',
        r'given twice .*rack = \\?"r2',
    ),
    "a rack without feeds": (
        "inventory",
        "[nodes.n01]",
        '[racks.r5]\nrow = "b"\n\n[nodes.n01]',
        r"racks\.r5\.feeds: missing",
    ),
    "a rack with a table of no feeds": (
        "inventory",
        "[nodes.n01]",
        '[racks.r5]\nrow = "b"\nfeeds = {}\n\n[nodes.n01]',
        r"racks\.r5\.feeds = {}: .*at least 1",
    ),
    "a rack without nodes": (
        "inventory",
        "[nodes.n01]",
        '[racks.r5]\nrow = "b"\nfeeds.A = {breaker_rating_a = 80, phase_voltage_v = 230}\n\n'
        "[nodes.n01]",
        r"racks\.r5: no node stands in it",
    ),
    "a row without racks": (
        "inventory",
        "[rows.b]",
        "[rows.c]\n[rows.b]",
        r"rows\.c: no rack stands in it",
    ),
    "an unknown row": (
        "inventory",
        'row = "a"',
        'row = "z"',
        r'racks\.r1\.row = "z": no such row; known: a, b',
    ),
    "an unknown rack": (
        "inventory",
        N01,
        '[nodes.n01]\nrack = "r9"',
        r'nodes\.n01\.rack = "r9": no such rack; known: r1, r2, r3, r4',
    ),
    "an unknown node type": (
        "inventory",
        N01 + '\ntype = "h100x8"',
        N01 + '\ntype = "h200"',
        r'nodes\.n01\.type = "h200": no such node type; known: h100x8',
    ),
    "a node that idles above its maximum": (
        "inventory",
        "idle_w = 1000 ",
        "idle_w = 10200 ",
        r"node_types\.h100x8\.max_w = 10200: must be above idle_w = 10200",
    ),
    "a limit in kW for W": (
        "inventory",
        "operator_limit_w = 40000",
        "operator_limit_w = 40",
        r"racks\.r1: its safe limit of 32 W \(operator_limit_w = 40\) must be above .* 4000 W",
    ),
    "a burst limit below the safe limit": (
        "inventory",
        "burst_limit_w = 40000",
        "burst_limit_w = 30000",
        r"racks\.r1\.burst_limit_w = 30000: must not be below its safe limit of 32000 W",
    ),
    "one name for two layers": (
        "inventory",
        'name = "lab"',
        'name = "r1"',
        r'"r1" names 2 layers',
    ),
    "one meter for two feeds": (
        "inventory",
        "snmp://127.0.1.2",
        "snmp://127.0.1.1",
        r'address "snmp://127.0.1.1" is given 2 times',
    ),
    "half a rack on meters": (
        "inventory",
        'pdu = "snmp://127.0.1.2"\n',
        "",
        r"racks\.r1\.feeds\.B\.pdu: missing",
    ),
    "an address of another kind": (
        "inventory",
        "snmp://127.0.1.1",
        "http://127.0.1.1",
        r'racks\.r1\.feeds\.A\.pdu = "http://127.0.1.1": .*snmp',
    ),
    "a name with a blank": (
        "inventory",
        "[nodes.n01]",
        '[nodes."n 01"]',
        r'nodes\."n 01": name "n 01": allowed are',
    ),
    "a key with a line break": (
        "inventory",
        "power_factor = 0.95",
        '"power\\nfactor" = 0.95',
        r'site\."power\\nfactor" = 0.95: unknown key',
    ),
    "a value with an escape sequence": (
        "inventory",
        "snmp://127.0.1.1",
        "snmp://\\u001b[2Jx",
        r"racks\.r1\.feeds\.A\.pdu = \"snmp://\\x1b\[2Jx",
    ),
    "a table where a value belongs": (
        "inventory",
        'name = "lab"',
        "name = {}",
        r"site\.name = {}: .*valid string",
    ),
    "one lane for both": (
        "policy",
        'partition = "cold"',
        'partition = "hot"',
        r'lanes\.cold\.partition = "hot": must not be the hot lane',
    ),
    "an unknown tier": (
        "policy",
        'default = "silver"',
        'default = "tin"',
        r"tiers\.default = \"tin\": .*'gold', 'silver' or 'bronze'",
    ),
    "a notice that is no number": (
        "policy",
        "silver_notice_s = 600",
        "silver_notice_s = nan",
        r"tiers\.silver_notice_s = nan: ",
    ),
    "polls without end": (
        "policy",
        "poll_interval_s = 2.0",
        "poll_interval_s = inf",
        r"control\.poll_interval_s = inf: .*less than or equal to",
    ),
    "more polls than there are years": (
        "policy",
        "stale_polls = 3",
        "stale_polls = 99999999999999999999",
        r"control\.stale_polls = 99999999999999999999: ",
    ),
    "a negative tariff": (
        "policy",
        "\ntariff_per_kwh = 0.25",
        "\ntariff_per_kwh = -1",
        r"showback\.tariff_per_kwh = -1: .*greater than or equal to 0",
    ),
    "an unknown mode": (
        "broker",
        'mode = "enforce"',
        'mode = "on"',
        r"mode = \"on\": .*'off', 'observe' or 'enforce'",
    ),
    "a date where a number belongs": (
        "broker",
        "cycle_s = 1.0",
        "cycle_s = 2026-01-01",
        r"cycle_s = 2026-01-01: ",
    ),
}


@pytest.fixture
def etc(tmp_path: Path) -> Path:
    """A copy of etc/ to spoil."""
    for name in ("inventory", "policy", "broker"):
        shutil.copy(ETC / f"{name}.toml", tmp_path)
    return tmp_path


@pytest.mark.parametrize(("name", "good", "bad", "says"), MISTAKES.values(), ids=MISTAKES.keys())
def test_one_line_says_it(
    etc: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    good: str,
    bad: str,
    says: str,
) -> None:
    path = etc / f"{name}.toml"
    text = path.read_text()
    assert good in text
    path.write_text(text.replace(good, bad, 1))

    assert main(["--check", str(etc)]) == 2

    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if re.search(says, line)], lines
    assert len(lines) == 1, lines
    assert lines[0].startswith(f"powerbrokerd: {path}: ")
    assert len(lines[0]) < 700
    assert lines[0].isprintable()


def test_every_mistake_of_every_file_is_told_at_once(
    etc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, typo in {"inventory": "power_factr = 1", "policy": "[x]", "broker": "y = 1"}.items():
        path = etc / f"{name}.toml"
        path.write_text(path.read_text().replace("[site]", f"[site]\n{typo}"))
        if name != "inventory":
            path.write_text(f"{typo}\n" + path.read_text() if name == "broker" else "[x]\n")

    assert main(["--check", str(etc)]) == 2

    lines = capsys.readouterr().err.splitlines()
    assert any("site.power_factr" in line for line in lines)
    assert any("policy.toml: lanes: missing" in line for line in lines)
    assert any("broker.toml: y = 1: unknown key" in line for line in lines)


UNREADABLE = {
    "an empty file": (b"", "site: missing; it must be given"),
    "prose": (b"the racks are in the cellar", "not TOML"),
    "binary garbage": (random.Random(1).randbytes(4_096), "not text in UTF-8"),
    "NUL bytes": (b"\0" * 100, "not TOML"),
    "brackets without end": (b"x = " + b"[" * 100_000, "not TOML"),
    "another encoding": ('[site]\nname = "h\u00fctte"'.encode("latin-1"), "not text in UTF-8"),
}


@pytest.mark.parametrize(("content", "says"), UNREADABLE.values(), ids=UNREADABLE.keys())
def test_a_file_that_is_none(etc: Path, content: bytes, says: str) -> None:
    (etc / "inventory.toml").write_bytes(content)

    with pytest.raises(ConfigInvalid) as refused:
        load_inventory(etc / "inventory.toml")

    for line in str(refused.value).splitlines():
        assert line.startswith(f"{etc / 'inventory.toml'}: ")
        assert line.isprintable()
    assert says in str(refused.value)


def test_no_file_and_no_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(tmp_path / "nowhere")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.rpartition("/")[2] for line in lines] == [
        "inventory.toml)",
        "policy.toml)",
        "broker.toml)",
    ]
    assert all("no such file" in line for line in lines)

    (tmp_path / "inventory.toml").mkdir()
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        load_inventory(tmp_path / "inventory.toml")


@pytest.mark.parametrize("name", ["inventory", "policy", "broker"])
def test_a_file_cut_anywhere_is_refused_or_whole(etc: Path, name: str) -> None:
    path = etc / f"{name}.toml"
    whole = path.read_bytes()
    # Each byte of the first part, then a sample: the inventory repeats itself.
    cuts = [*range(min(900, len(whole))), *range(900, len(whole), 23)]
    for cut in cuts:
        path.write_bytes(whole[:cut])
        try:
            load_settings(etc)
        except ConfigInvalid as refused:
            for line in str(refused).splitlines():
                assert line.startswith(f"{path}: "), line
                assert line.isprintable()


def test_a_state_is_missing_no_sooner_than_stale(tmp_path: Path) -> None:
    text = (ETC / "policy.toml").read_text()
    path = tmp_path / "policy.toml"
    path.write_text(text.replace("missing_after_s = 600", "missing_after_s = 29"))

    with pytest.raises(ConfigInvalid, match=r"hook\.missing_after_s = 29: must not be below"):
        load_policy(path)
