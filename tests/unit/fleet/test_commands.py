# SPDX-License-Identifier: GPL-2.0-or-later
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fleet.cli import OWN_INVENTORY, main
from tests.fleet.commands import BadCommand, execute
from tests.fleet.journal import Journal
from tests.fleet.layout import BadInventory, layout_of, load_layout
from tests.fleet.plant import Plant
from tests.fleet.units import parse_watts


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    journal = Journal(tmp_path / "fleet.jsonl")
    yield Plant(load_layout(OWN_INVENTORY), journal)
    journal.close()


def events(plant: Plant) -> list[dict[str, object]]:
    return [json.loads(line) for line in plant.journal.path.read_text().splitlines()]


@pytest.mark.parametrize(
    ("text", "watts"), [("15kW", 15_000), ("7.5kW", 7500), ("300W", 300), ("0W", 0)]
)
def test_watts_are_read(text: str, watts: float) -> None:
    assert parse_watts(text) == watts


@pytest.mark.parametrize("text", ["15", "-1kW", "15KW", "15 kW", "nankW", "1e9kW", "٣kW", ""])
def test_anything_else_is_no_power(text: str) -> None:
    with pytest.raises(ValueError, match="is no power"):
        parse_watts(text)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("extra r9 15kW", "unknown rack 'r9': allowed are r1, r2, r3, r4"),
        ("extra r1 15", "'15' is no power"),
        ("extra r1", "usage is extra RACK WATTS"),
        ("mute r1", "unknown device 'r1': allowed are r1.A"),
        ("unmute n17.bmc", "unknown device"),
        ("lie r1.A much", "'much' is no lie"),
        ("lie r1.A nan", "'nan' is no lie"),
        ("status --yaml", "unknown argument '--yaml'"),
        ("expode", "unknown command 'expode': allowed are extra, mute"),
    ],
)
def test_a_misspelt_command_names_what_is_allowed(words: str, message: str, plant: Plant) -> None:
    with pytest.raises(BadCommand, match=message.replace(".", r"\.")):
        execute(words.split(), plant)
    assert events(plant) == []


def test_extra_watts_are_drawn_at_once_and_written_down(plant: Plant) -> None:
    rack = plant.layout.racks["r1"]
    before_w = plant.draw_w(rack)
    execute(["extra", "r1", "15kW"], plant)
    assert plant.draw_w(rack) == pytest.approx(before_w + 15_000)
    (event,) = events(plant)
    assert event.items() >= {"event": "extra", "rack": "r1", "watts": 15_000}.items()


def test_only_the_first_over_limit_answer_is_written_down(plant: Plant) -> None:
    execute(["extra", "r1", "30kW"], plant)
    for _ in range(3):
        plant.count_pdu_answer(plant.layout.pdus["r1.B"])
    plant.tick(0.25, {})
    execute(["reset"], plant)
    plant.tick(0.25, {})
    written = [(event["event"], event.get("device")) for event in events(plant)]
    assert written == [
        ("extra", None),
        ("over-limit-answer", "r1.B"),
        ("reset", None),
        ("under-limit", None),
    ]


def test_jobs_that_declare_up_to_the_limit_never_pass_it(plant: Plant) -> None:
    loads = {f"n{number:02}": {"1": 7000.0} for number in range(1, 5)}
    for _ in range(400):
        plant.tick(0.25, loads)
    assert 31_900 < plant.max_w["r1"] <= plant.layout.racks["r1"].limit_w


def test_energy_is_draw_over_time(plant: Plant) -> None:
    before_wh = dict(plant.energy_wh)
    for _ in range(3600):
        plant.tick(1.0, {})
    drawn_wh = sum(plant.energy_wh[name] - before_wh[name] for name in ("r1.A", "r1.B"))
    assert drawn_wh == pytest.approx(4000, rel=0.01)


def test_reset_forgets_every_misbehaviour(plant: Plant) -> None:
    for words in ("extra r1 1kW", "mute r3.B", "lie r4.A -1", "lie n01.bmc 5kW", "reset"):
        execute(words.split(), plant)
    status = json.loads(execute(["status", "--json"], plant))
    assert (status["muted"], status["lies"], status["racks"]["r1"]["extra_w"]) == ([], {}, 0)


def test_the_labs_safe_limits_are_known(plant: Plant) -> None:
    limits = {name: layer.limit_w for name, layer in plant.layout.layers.items()}
    assert {limits[name] for name in ("r1", "r2", "r3", "r4")} == {32_000}
    assert (limits["a"], limits["b"], limits["lab"]) == (58_000, 58_000, 108_000)


def test_an_unknown_pdu_profile_is_refused() -> None:
    text = OWN_INVENTORY.read_text().replace("apc-rpdu2", "apc-rpdu9", 1)
    with pytest.raises(ValueError, match=r"racks\.r1\.feeds\.A\.profile 'apc-rpdu9'"):
        layout_of(tomllib.loads(text))


def test_a_missing_inventory_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInventory, match=r"none\.toml: No such file"):
        load_layout(tmp_path / "none.toml")


def test_without_a_fleet_the_command_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--control", str(tmp_path / "none.sock"), "reset"]) == 1
    assert capsys.readouterr().err.startswith("fleet: no fleet answers at ")
