# SPDX-License-Identifier: GPL-2.0-or-later
"""resources.yaml: what is written, and what must never be."""

from __future__ import annotations

from pathlib import Path

import pytest

from broker.adapters.slurm.hostlist import compress, expand
from broker.adapters.slurm.resources_yaml import NO_RESOURCES, render, validate, write_resources
from broker.domain.errors import ConfigInvalid
from broker.domain.tokens import TokenLayer


def a_layer(name: str, nodes: str, count_w: int = 28_000) -> TokenLayer:
    return TokenLayer(name=name, nodes=expand(nodes), count_w=count_w)


A_TREE = (
    a_layer("lab", "n[01-08]", 46_000),
    a_layer("r1", "n[01-04]"),
    a_layer("pool", "n[05-06]", 18_000),
    a_layer("r2", "n[07-08]", 10_000),
)


def test_the_file_reads_as_slurmctld_wants_it_leaves_first() -> None:
    assert render(A_TREE) == (
        "# Written by powerbrokerd; watts per layer. Changes by hand are lost.\n"
        "- resource: power\n"
        "  mode: MODE_3\n"
        "  layers:\n"
        '    - {nodes: ["n[01-04]"], count: 28000}  # r1\n'
        '    - {nodes: ["n[05-06]"], count: 18000}  # pool\n'
        '    - {nodes: ["n[07-08]"], count: 10000}  # r2\n'
        '    - {nodes: ["n[01-08]"], count: 46000}  # lab\n'
    )


def test_the_same_layers_give_the_same_text_in_any_order() -> None:
    assert render(A_TREE[::-1]) == render(A_TREE)


REFUSED = {
    "a single layer, which slurmctld would not enforce": (
        [a_layer("lab", "n[01-04]")],
        "1 layer given",
    ),
    "no root": (
        [a_layer("r1", "n[01-04]"), a_layer("r2", "n[05-08]")],
        "no layer holds all 8 nodes",
    ),
    "the same nodes twice": (
        [a_layer("lab", "n[01-04]"), a_layer("r1", "n[01-04]")],
        "hold the same 4 nodes",
    ),
    "layers that cross": (
        [a_layer("lab", "n[01-08]"), a_layer("r1", "n[01-04]"), a_layer("r2", "n[04-08]")],
        "layers r1 and r2 share n04 and 0 more nodes",
    ),
    "leaves that are not equally deep, which slurmctld may accept and not enforce": (
        [
            a_layer("lab", "n[01-08]"),
            a_layer("pool", "n[07-08]"),
            a_layer("rest", "n[01-06]"),
            a_layer("r1", "n[01-04]"),
            a_layer("r2", "n[05-06]"),
        ],
        "leaf pool is 2 deep and leaf r1 3",
    ),
    "an empty layer": ([a_layer("lab", "n[01-04]"), a_layer("r1", "")], "r1 has no nodes"),
    "fewer than no watts": (
        [a_layer("lab", "n[01-04]"), a_layer("r1", "n[01-02]", -1)],
        "r1: -1 W is outside",
    ),
}


@pytest.mark.parametrize(("layers", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refused(layers: list[TokenLayer], words: str) -> None:
    with pytest.raises(ConfigInvalid, match=words):
        validate(layers)


def test_the_file_before_is_kept_as_the_last_good_one(tmp_path: Path) -> None:
    path = tmp_path / "resources.yaml"

    assert write_resources(path, NO_RESOURCES)
    assert write_resources(path, render(A_TREE))

    assert path.read_text() == render(A_TREE)
    assert (tmp_path / "resources.yaml.last-good").read_text() == NO_RESOURCES
    assert path.stat().st_mode & 0o777 == 0o644
    assert len(list(tmp_path.iterdir())) == 2


def test_writing_the_same_again_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "resources.yaml"
    write_resources(path, NO_RESOURCES)
    write_resources(path, render(A_TREE))

    assert not write_resources(path, render(A_TREE))
    assert (tmp_path / "resources.yaml.last-good").read_text() == NO_RESOURCES


HOSTLISTS = {
    "n[01-04,07]": ("n01", "n02", "n03", "n04", "n07"),
    "login": ("login",),
    "gpu1,n[08-11]": ("gpu1", "n08", "n09", "n10", "n11"),
    "n[9-11]": ("n9", "n10", "n11"),
    "r[1-2]n[1-2]": ("r1n1", "r1n2", "r2n1", "r2n2"),
    "": (),
}


@pytest.mark.parametrize(("text", "names"), HOSTLISTS.items())
def test_hostlists_are_expanded(text: str, names: tuple[str, ...]) -> None:
    assert expand(text) == names


@pytest.mark.parametrize("names", HOSTLISTS.values())
def test_what_is_compressed_expands_to_the_same_names(names: tuple[str, ...]) -> None:
    assert sorted(expand(compress(names))) == sorted(names)
