# SPDX-License-Identifier: GPL-2.0-or-later
"""A power graph small enough to reckon with in one's head."""

from broker.domain.power_graph import Layer, LayerKind, Node, NodeType, PowerGraph

IDLE_W = 1_000
TYPE = NodeType("h100x8", idle_w=IDLE_W, max_w=10_200, gpus=8)


def a_graph(
    *, rack_tokens_w: int = 28_000, row_tokens_w: int = 50_000, site_tokens_w: int = 92_000
) -> PowerGraph:
    """Racks r1, r2 of row a and r3 of row b, four nodes each: n01 to n12."""
    racks = {"r1": "a", "r2": "a", "r3": "b"}
    nodes = {
        rack: tuple(f"n{4 * index + each:02}" for each in range(1, 5))
        for index, rack in enumerate(racks)
    }

    def layer(
        name: str, kind: LayerKind, parent: str | None, below: tuple[str, ...], tokens_w: int
    ) -> Layer:
        safe_w = tokens_w + len(below) * IDLE_W
        return Layer(name, kind, parent, safe_w, safe_w, 0, below)

    layers = [
        *(layer(r, LayerKind.RACK, row, nodes[r], rack_tokens_w) for r, row in racks.items()),
        layer("a", LayerKind.ROW, "lab", nodes["r1"] + nodes["r2"], row_tokens_w),
        layer("b", LayerKind.ROW, "lab", nodes["r3"], row_tokens_w),
        layer("lab", LayerKind.SITE, None, sum(nodes.values(), ()), site_tokens_w),
    ]
    return PowerGraph(
        {each.name: each for each in layers},
        {name: Node(name, rack, TYPE, f"{name}.bmc") for rack in racks for name in nodes[rack]},
    )
