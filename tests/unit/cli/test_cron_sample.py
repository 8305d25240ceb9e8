# SPDX-License-Identifier: GPL-2.0-or-later
"""etc/showback.cron is what cron and powermgr understand."""

from __future__ import annotations

import re
import shlex
import subprocess
from datetime import datetime
from pathlib import Path

import pytest

from broker.cli.command import Context
from broker.cli.options import read_options
from broker.cli.report import report
from broker.cli.words import read_verb
from broker.services.messages import Answer, Request

SAMPLE = Path(__file__).parents[3] / "etc" / "showback.cron"
LINES = [
    line
    for line in SAMPLE.read_text().splitlines()
    if line and not line.startswith("#") and not re.match(r"[A-Z]+=", line)
]
RANGES = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]


def the_command(line: str) -> str:
    """What cron hands to the shell: an unescaped % would end it."""
    command = line.split(maxsplit=6)[6]
    assert not re.search(r"(?<!\\)%", command)
    return command.replace("\\%", "%")


def test_there_is_a_daily_and_a_monthly_report() -> None:
    assert [line.split()[2] for line in LINES] == ["*", "1"]
    assert SAMPLE.read_text().endswith("\n")  # cron ignores a last line without


@pytest.mark.parametrize("line", LINES)
def test_the_times_and_the_user_are_crons(line: str) -> None:
    *times, user = line.split()[:6]

    for text, (low, high) in zip(times, RANGES, strict=True):
        assert text == "*" or low <= int(text) <= high
    assert user == "powerbroker"


@pytest.mark.parametrize("line", LINES)
def test_powermgr_understands_the_command(line: str) -> None:
    command = the_command(line).partition(">")[0]
    # The shell fills in the dates.
    words = subprocess.run(
        ["/bin/sh", "-c", f"printf '%s\\n' {command}"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert words[0] == "powermgr"
    asked: list[Request] = []

    def broker(request: Request) -> Answer:
        asked.append(request)
        return Answer()

    options = read_options(words[1:])
    assert read_verb(options.words[0]) == "report"
    now = datetime.now().astimezone()
    report(options.words[1:], Context(options, now, broker, lambda doing: True))

    assert set(asked[0].where) == {"start", "end"}


@pytest.mark.parametrize("line", LINES)
def test_the_shell_understands_the_command(line: str) -> None:
    shlex.split(the_command(line))
    subprocess.run(["/bin/sh", "-n", "-c", the_command(line)], check=True)
