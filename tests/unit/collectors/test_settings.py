# SPDX-License-Identifier: GPL-2.0-or-later
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from collectors.main import main
from collectors.settings import load_settings

ETC = Path(__file__).resolve().parents[3] / "etc"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The sample configuration as installed."""
    for name in ("inventory.toml", "collectors.toml", "secrets.toml"):
        shutil.copy(ETC / name, tmp_path / name)
    (tmp_path / "secrets.toml").chmod(0o600)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new, 1))


def test_the_sample_is_the_lab(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(folder)]) == 0

    assert capsys.readouterr().out == "ok: 8 PDUs of 2 profiles, 16 BMCs, every 2 s\n"
    settings = load_settings(folder)
    assert (settings.pdus[1].name, settings.pdus[1].host) == ("r1.B", "127.0.1.2")
    assert settings.pdus[1].ceiling_w == 66_240  # 80 A x 230 V x 3 x 0.80 x 1.5
    assert (settings.bmcs[15].name, settings.bmcs[15].port) == ("n16.bmc", 623)


MISTAKES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "a typo": (
        "collectors.toml",
        lambda path: edit(path, "interval_s", "intervall_s"),
        "polling.intervall_s = 2.0: no such key",
    ),
    "a negative number": (
        "collectors.toml",
        lambda path: edit(path, "interval_s = 2.0", "interval_s = -2"),
        "polling.interval_s = -2: input should be greater than or equal to 0.1",
    ),
    "not a number at all": (
        "collectors.toml",
        lambda path: edit(path, "interval_s = 2.0", "interval_s = nan"),
        "polling.interval_s = nan: ",
    ),
    "a timeout that outlasts the interval": (
        "collectors.toml",
        lambda path: edit(path, "timeout_s = 1.5", "timeout_s = 2.0"),
        "polling: value error, timeout_s 2.0 must be below interval_s 2.0",
    ),
    "an engine nobody wrote": (
        "collectors.toml",
        lambda path: edit(path, '"gufo" #', '"snmpget" #'),
        "polling.snmp_engine = 'snmpget': input should be 'gufo' or 'pysnmp'",
    ),
    "no TOML": (
        "collectors.toml",
        lambda path: edit(path, "[polling]", "[polling"),
        "not TOML: ",
    ),
    "no UTF-8": (
        "collectors.toml",
        lambda path: path.write_bytes(b"\xff\xfe") and None,
        "not UTF-8: ",
    ),
    "no file": ("collectors.toml", Path.unlink, "No such file or directory"),
    "an unknown profile": (
        "inventory.toml",
        lambda path: edit(path, '"apc-rpdu2"', '"apc-rpdu3"'),
        "racks.r1.feeds.A.profile = 'apc-rpdu3': expected one of apc-cpdu, apc-",
    ),
    "a PDU without an address": (
        "inventory.toml",
        lambda path: edit(path, 'pdu = "snmp://127.0.1.1"', ""),
        "racks.r1.feeds.A.pdu: this key is required",
    ),
    "an address of the wrong kind": (
        "inventory.toml",
        lambda path: edit(path, "snmp://127.0.1.1", "http://127.0.1.1"),
        "racks.r1.feeds.A.pdu = 'http://127.0.1.1': expected snmp://HOST",
    ),
    "a port out of range": (
        "inventory.toml",
        lambda path: edit(path, "ipmi://127.0.2.1", "ipmi://127.0.2.1:70000"),
        "nodes.n01.bmc = 'ipmi://127.0.2.1:70000': expected ipmi://HOST",
    ),
    "one meter for two feeds": (
        "inventory.toml",
        lambda path: edit(path, "snmp://127.0.1.2", "snmp://127.0.1.1"),
        "r1.B = '127.0.1.1:161': r1.A has this address too; one meter cannot be two",
    ),
    "a rack without feeds": (
        "inventory.toml",
        lambda path: path.write_text("[racks.r1]\nfeeds = {}\n") and None,
        "racks.r1.feeds: dictionary should have at least 1 item after validation, not 0",
    ),
    "a node of no known type": (
        "inventory.toml",
        lambda path: edit(path, 'type = "h100x8"', 'type = "h200"'),
        "nodes.n01.type = 'h200': expected one of h100x8",
    ),
    "secrets others can read": (
        "secrets.toml",
        lambda path: path.chmod(0o640),
        "mode 0640 lets others read it; chmod 600 ",
    ),
}


@pytest.mark.parametrize(("file", "make", "line"), MISTAKES.values(), ids=MISTAKES.keys())
def test_a_mistake_is_one_clear_line(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    file: str,
    make: Callable[[Path], None],
    line: str,
) -> None:
    make(folder / file)

    assert main(["--check", str(folder)]) == 2

    [said] = capsys.readouterr().err.splitlines()
    assert said.startswith(f"powercollectord: {folder / file}: ")
    assert line in said


def test_every_mistake_is_told_at_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder / "collectors.toml", "keep_days", "keepdays")
    edit(folder / "inventory.toml", "snmp://127.0.1.3", "127.0.1.3")
    edit(folder / "inventory.toml", "snmp://127.0.1.5", "127.0.1.5")

    assert main(["--config", str(folder)]) == 2

    assert len(capsys.readouterr().err.splitlines()) == 3


def test_a_secret_is_never_repeated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit(folder / "secrets.toml", '"password"', '"hunter2-is-much-too-long-for-ipmi"')
    edit(folder / "secrets.toml", '"public"', "4711")
    edit(folder / "inventory.toml", "snmp://127.0.1.1", "snmp://hunter2@127.0.1.1")

    assert main(["--check", str(folder)]) == 2

    said = capsys.readouterr().err
    assert "hunter2" not in said
    assert "4711" not in said
    assert "secrets.toml: ipmi.password: " in said
