# SPDX-License-Identifier: GPL-2.0-or-later
"""The samples in etc/ are the lab's own, and say exactly what the design says."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.config.settings import Settings, load_settings
from broker.daemon.main import main

ETC = Path(__file__).resolve().parents[3] / "etc"


@pytest.fixture(scope="module")
def settings() -> Settings:
    return load_settings(ETC)


@pytest.mark.parametrize(
    ("name", "safe_w", "burst_w", "tokens_w"),
    [
        *((f"r{i}", 32_000, 40_000, 28_000) for i in range(1, 5)),
        ("a", 58_000, 72_500, 50_000),
        ("b", 58_000, 72_500, 50_000),
        ("lab", 108_000, 135_000, 92_000),
    ],
)
def test_limits(settings: Settings, name: str, safe_w: int, burst_w: int, tokens_w: int) -> None:
    layer = settings.graph.layers[name]

    assert (layer.safe_w, layer.burst_w) == (safe_w, burst_w)
    assert settings.graph.tokens_w(layer) == tokens_w


def test_racks_have_four_nodes_and_two_meters_each(settings: Settings) -> None:
    racks = settings.graph.racks

    assert [rack.nodes for rack in racks[:2]] == [
        ("n01", "n02", "n03", "n04"),
        ("n05", "n06", "n07", "n08"),
    ]
    assert [rack.pdus for rack in racks] == [(f"r{i}.A", f"r{i}.B") for i in range(1, 5)]
    assert {(n.type.idle_w, n.type.max_w, n.type.gpus) for n in settings.graph.nodes.values()} == {
        (1_000, 10_200, 8)
    }


def test_check_says_what_it_found_and_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(ETC)]) == 0
    assert "4 racks, 16 nodes, site lab safe at 108000 W" in capsys.readouterr().out
