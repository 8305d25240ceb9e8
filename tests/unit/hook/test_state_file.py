# SPDX-License-Identifier: GPL-2.0-or-later
"""admission.state as text: what the broker writes, the hook and the broker read."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from broker.adapters import state_file
from broker.adapters.state_file import StateUnreadable
from tests.unit.hook import lua
from tests.unit.hook.test_cases import LAB_STATE


def test_what_is_rendered_is_read_back() -> None:
    state = state_file.parse(LAB_STATE)
    assert state_file.parse(state_file.render(state)) == state
    assert state.generation == 7
    assert state.upper_layers()["site"].name == "lab"


def test_odd_names_survive() -> None:
    state = state_file.parse(LAB_STATE)
    odd = dataclasses.replace(state, cluster="a b%=\nend é", admins=("a b", "c,d"))
    again = state_file.parse(state_file.render(odd))
    assert again.cluster == odd.cluster


def test_the_hook_reads_what_the_broker_writes(tmp_path: Path) -> None:
    path = tmp_path / "admission.state"
    state_file.write_state(path, state_file.parse(LAB_STATE))
    case = {"state_file": str(path), "spool": str(tmp_path / "spool"), "now": lua.NOON}
    answer = lua.run([case | {"job": dict(lua.PLAIN_JOB) | {"min_nodes": 4}}])[0]
    assert answer["written"]["licenses"] == "power:9200"


def test_it_is_replaced_at_once_and_readable_by_slurm(tmp_path: Path) -> None:
    path = tmp_path / "admission.state"
    state = state_file.parse(LAB_STATE)
    state_file.write_state(path, state)
    first = path.stat().st_ino
    state_file.write_state(path, dataclasses.replace(state, generation=8))
    assert path.stat().st_ino != first
    assert path.stat().st_mode & 0o777 == 0o644
    assert state_file.read_state(path).generation == 8
    assert os.listdir(tmp_path) == ["admission.state"]


def test_administrators_get_their_uids(tmp_path: Path) -> None:
    state = dataclasses.replace(
        state_file.parse(LAB_STATE), admins=("root", "nobody-of-that-name"), admin_uids=()
    )
    path = tmp_path / "admission.state"
    state_file.write_state(path, state)
    assert state_file.read_state(path).admin_uids == (0,)


def test_a_state_that_the_hook_would_not_read_is_not_written(tmp_path: Path) -> None:
    state = state_file.parse(LAB_STATE)
    large = dataclasses.replace(state, layers=state.layers * 100)
    path = tmp_path / "admission.state"
    state_file.write_state(path, state)
    with pytest.raises(StateUnreadable, match="the hook reads at most 65536"):
        state_file.write_state(path, large)
    assert state_file.read_state(path) == state


@pytest.mark.parametrize("at", range(0, len(LAB_STATE) - 1, 97))
def test_a_torn_file_is_seen_wherever_it_tears(at: int) -> None:
    with pytest.raises(StateUnreadable):
        state_file.parse(LAB_STATE[:at])
