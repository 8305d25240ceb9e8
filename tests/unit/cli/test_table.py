# SPDX-License-Identifier: GPL-2.0-or-later
"""How rows look: as sacctmgr's, and nothing cut silently."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from broker.cli.entities import ENTITIES
from broker.cli.table import Style, read_format, render
from broker.domain.errors import BadRequest

RACKS: list[dict[str, Any]] = [
    {"name": "r1", "row": "a", "safe_w": 32000, "draw_w": 9120, "state": "ok", "age_s": 1.2},
    {"name": "r10", "row": "a", "safe_w": 32000, "draw_w": None, "state": "stale", "age_s": None},
]
SHORT = "name,row,safe_w,draw_w,state"


def text(
    rows: list[dict[str, Any]],
    wanted: str = "",
    *,
    entity: str = "rack",
    style: Style = Style.TABLE,
    header: bool = True,
) -> str:
    fields = read_format(wanted, ENTITIES[entity])
    return render(rows, fields, style=style, header=header)


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def test_a_table() -> None:
    assert text(RACKS, SHORT) == (
        "name row safe_w draw_w state\n"
        "---- --- ------ ------ -----\n"
        "  r1   a  32000   9120    ok\n"
        " r10   a  32000      - stale\n"
    )


def test_no_header() -> None:
    assert text(RACKS, SHORT, header=False) == " r1 a 32000 9120    ok\nr10 a 32000    - stale\n"


def test_parsable_with_and_without_the_last_bar() -> None:
    assert text(RACKS, SHORT, style=Style.PARSABLE2) == (
        "name|row|safe_w|draw_w|state\nr1|a|32000|9120|ok\nr10|a|32000||stale\n"
    )
    assert text(RACKS, SHORT, style=Style.PARSABLE, header=False) == (
        "r1|a|32000|9120|ok|\nr10|a|32000||stale|\n"
    )


def test_json_keeps_numbers_and_unknown_is_null() -> None:
    found = json.loads(text(RACKS, "name,draw_w,age_s", style=Style.JSON))

    assert found == [
        {"name": "r1", "draw_w": 9120, "age_s": 1.2},
        {"name": "r10", "draw_w": None, "age_s": None},
    ]


def test_no_rows_are_a_header_or_an_empty_array() -> None:
    assert text([], "name,row") == "name row\n---- ---\n"
    assert json.loads(text([], style=Style.JSON)) == []


def test_only_a_stated_width_cuts_and_it_shows() -> None:
    rows = [{"name": "a-very-long-rack-name", "state": "ok"}]

    assert text(rows, "name%8,state%-5,state", header=False) == "a-very-+ ok    ok\n"
    assert "a-very-long-rack-name" in text(rows, "name")
    assert text(rows, "name%1", header=False) == "+\n"


def test_columns_may_be_shortened_and_in_any_case() -> None:
    assert [f.column.name for f in read_format("NAME,safe,Head", ENTITIES["rack"])] == [
        "name", "safe_w", "headroom_w",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "hint"),
    [
        ("nam,stat,watts", "expected one of name, row, safe_w"),
        ("draww", "did you mean draw_w?"),
        ("s", "it may be safe_w or state"),
        ("name,,row", "expected one of"),
    ],
)
def test_unknown_columns_are_explained(wanted: str, hint: str) -> None:
    with pytest.raises(BadRequest, match="cannot understand format=") as error:
        read_format(wanted, ENTITIES["rack"])
    assert error.value.hint.startswith(hint)


@pytest.mark.parametrize("width", ["", "0", "-0", "x", "1.5", "99999", "+5", "--5"])
def test_a_width_that_is_none(width: str) -> None:
    with pytest.raises(BadRequest, match="the width after %"):
        read_format(f"name%{width}", ENTITIES["rack"])


@pytest.mark.usefixtures("berlin")
def test_times_are_local_in_tables_and_utc_in_json() -> None:
    rows = [{"at": "2026-12-01T17:00:05+00:00"}, {"at": None}, {"at": "whenever"}]

    assert text(rows, "at", entity="decision", header=False) == (
        "2026-12-01T18:00:05\n                  -\n           whenever\n"
    )
    assert json.loads(text(rows, "at", entity="decision", style=Style.JSON)) == rows


def test_energy_and_money_have_their_decimals() -> None:
    rows = [{"account": "ml", "metered_kwh": 12.5, "cost": 3}]

    assert text(rows, "account,metered,cost", entity="showback", header=False) == "ml 12.500 3.00\n"


def test_lists_and_truths_are_words() -> None:
    rows = [{"name": "x", "nodes": ["n01", "n02"]}]
    assert text(rows, "nodes", entity="reservation", header=False) == "n01,n02\n"
    assert text([{"fenced": True}, {"fenced": False}], "fenced", entity="node", header=False) == (
        "yes\n no\n"
    )


def test_what_users_write_cannot_control_the_terminal() -> None:
    rows = [{"message": "ok\x1b[2J\nroot \u202e evil"}]

    shown = text(rows, "message", entity="decision", header=False)

    assert shown == "ok\\x1b[2J\\nroot \\u202e evil\n"


def test_wide_characters_stay_in_their_columns() -> None:
    rows = [{"name": "電力", "state": "ok"}, {"name": "r1", "state": "ok"}]

    assert text(rows, "name,state", header=False) == "電力 ok\n  r1 ok\n"
    assert text(rows, "name%3,state", header=False) == "電+ ok\n r1 ok\n"
