# SPDX-License-Identifier: GPL-2.0-or-later
"""Mistakes in the configuration: exit 2, a line each with key, value and what is allowed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.acceptance import head

pytestmark = pytest.mark.lab

N01 = '[nodes.n01]\nrack = "r1"\ntype = "h100x8"\nbmc = "ipmi://127.0.2.1"\n'
TWICE = N01.replace('"r1"', '"r2"')
# name: (file, what stands there, what stands there instead, words of the one line about it)
INVENTORY_MISTAKES = {
    "a typo": ("operator_limit_w = 135000", "operater_limit_w = 135000",
               "site.operater_limit_w = 135000: unknown key.*did you mean operator_limit_w"),
    "a negative limit": ("operator_limit_w = 135000", "operator_limit_w = -5",
                         "site.operator_limit_w = -5: .*greater than 0"),
    "a limit that is no number": ("operator_limit_w = 135000", 'operator_limit_w = "135kW"',
                                  'site.operator_limit_w = "135kW": must be a plain number'),
    "a limit below idle": ("operator_limit_w = 135000", "operator_limit_w = 13500",
                           "site: its safe limit of 10800 W .* 16000 W"),
    "a node in two racks": (N01, N01 + TWICE, "given twice .*nodes.*n01"),
    "an unknown rack": ('[nodes.n01]\nrack = "r1"', '[nodes.n01]\nrack = "r9"',
                        'nodes.n01.rack = "r9": no such rack; known: r1'),
    "a meter in two places": ("snmp://127.0.1.2", "snmp://127.0.1.1",
                              '"snmp://127.0.1.1" is given 2 times'),
    "not TOML": ("[rows.a]", "[rows.a", "not TOML"),
}  # fmt: skip
POLICY_MISTAKES = {
    "a typo": ("silver_notice_s = ", "silver_notise_s = ", "did you mean silver_notice_s"),
    "a negative time": ("job_start_s = 30", "job_start_s = -30", "control.job_start_s = -30"),
    "an unknown tier": ('default = "silver"', 'default = "iron"', 'tiers.default = "iron"'),
}
COLLECTOR_MISTAKES = {
    "a typo": ("timeout_s = 1.5", "timeout = 1.5", "polling.timeout"),
    "a negative time": ("interval_s = 2.0", "interval_s = -2.0", "polling.interval_s"),
    "an unknown engine": ('snmp_engine = "gufo"', 'snmp_engine = "goofy"', "gufo.*pysnmp"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    copied = tmp_path / "config"
    shutil.copytree(head.SETTINGS, copied)
    return copied


@pytest.mark.parametrize("mistake", INVENTORY_MISTAKES.values(), ids=INVENTORY_MISTAKES.keys())
def test_a_mistake_in_the_inventory_is_one_line(
    folder: Path, mistake: tuple[str, str, str]
) -> None:
    _change(folder / "inventory.toml", mistake)
    _one_line_about(folder, "powerbrokerd", mistake[2])


@pytest.mark.parametrize("mistake", POLICY_MISTAKES.values(), ids=POLICY_MISTAKES.keys())
def test_a_mistake_in_the_policy_is_one_line(folder: Path, mistake: tuple[str, str, str]) -> None:
    _change(folder / "policy.toml", mistake)
    _one_line_about(folder, "powerbrokerd", mistake[2])


@pytest.mark.parametrize("mistake", COLLECTOR_MISTAKES.values(), ids=COLLECTOR_MISTAKES.keys())
def test_a_mistake_in_the_collectors_file_is_one_line(
    folder: Path, mistake: tuple[str, str, str]
) -> None:
    _change(folder / "collectors.toml", mistake)
    _one_line_about(folder, "powercollectord", mistake[2])


def test_a_rack_without_feeds_is_refused_by_both_daemons(folder: Path) -> None:
    path = folder / "inventory.toml"
    kept = re.sub(r"(?m)^\[racks\.r1\.feeds\.[AB]\]\n(?:.+\n)+\n?", "", path.read_text())
    assert "racks.r1.feeds" not in kept
    path.write_text(kept)
    for daemon in ("powerbrokerd", "powercollectord"):
        _one_line_about(folder, daemon, r"racks\.r1\.feeds")


def test_several_mistakes_are_told_at_once(folder: Path) -> None:
    _change(folder / "inventory.toml", INVENTORY_MISTAKES["a negative limit"])
    _change(folder / "policy.toml", POLICY_MISTAKES["an unknown tier"])
    said = _refused(folder, "powerbrokerd")
    assert len(said) == 2, said


def test_secrets_that_others_can_read_are_refused(folder: Path) -> None:
    (folder / "secrets.toml").chmod(0o644)
    _one_line_about(folder, "powercollectord", "secrets.toml.*(mode|read)")


def _change(path: Path, mistake: tuple[str, str, str]) -> None:
    right, wrong, _ = mistake
    text = path.read_text()
    assert right in text, f"{path} says no more: {right}"
    path.write_text(text.replace(right, wrong, 1))


def _one_line_about(folder: Path, daemon: str, words: str) -> None:
    said = _refused(folder, daemon)
    assert len(said) == 1, said
    assert re.search(words, said[0]), said[0]


def _refused(folder: Path, daemon: str) -> list[str]:
    """The lines that it said, hints left out."""
    done = head.run(daemon, "--check", str(folder), check=False)
    assert done.status == 2, done.text
    assert "Traceback" not in done.text
    return [line for line in done.err.splitlines() if ": hint: " not in line]
