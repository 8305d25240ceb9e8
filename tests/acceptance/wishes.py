# SPDX-License-Identifier: GPL-2.0-or-later
"""Random jobs, each with the tokens that its words imply, worked out here and not by the hook."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass

IDLE_W, MAX_W = 1_000, 10_200  # of the lab's nodes
TOKENS_MAX_W = MAX_W - IDLE_W
TIERS = ("gold", "silver", "bronze")


@dataclass(frozen=True)
class Wish:
    """One submission."""

    user: str
    options: tuple[str, ...]
    tokens_w: int  #: per node, as it must be charged
    load_w: int  #: per node, what it will draw above idle
    seconds: int
    everywhere: bool  #: does it draw on all its nodes, or on the first one?
    tasks: int = 1  #: of an array

    @property
    def script(self) -> str:
        return f"{'srun -Q ' if self.everywhere else ''}sleep {self.seconds}"


def wishes(seed: int, jobs: int) -> list[Wish]:
    """So many jobs, an array's tasks counted one by one."""
    dice = random.Random(seed)
    found: list[Wish] = []
    while (left := jobs - sum(each.tasks for each in found)) > 0:
        found.append(a_wish(dice, tasks=min(left, dice.choice((1,) * 12 + (2, 3)))))
    return found


def a_wish(dice: random.Random, *, tasks: int = 1) -> Wish:
    nodes = dice.choices((1, 2, 3, 4), (62, 25, 8, 5))[0]
    words, fewest, tokens_w = _envelope(dice, nodes)
    load_w = tokens_w if dice.random() < 0.4 else dice.randrange(tokens_w // 2, tokens_w + 1)
    options = [f"--nodes={words[0]}", f"--time={dice.randint(1, 9)}"]
    if words[1]:
        options.append(f"--comment={words[1]}")
    if dice.random() < 0.3:
        options.append("--partition=cold")
    if tasks > 1:
        options.append(f"--array=0-{tasks - 1}")
    return Wish(
        user=dice.choice(("alice", "bob")),
        options=tuple(options),
        tokens_w=tokens_w,
        load_w=load_w,
        seconds=dice.randint(1, 8),
        everywhere=fewest > 1 and dice.random() < 0.3,
        tasks=tasks,
    )


def _envelope(dice: random.Random, nodes: int) -> tuple[tuple[str, str], int, int]:
    """((nodes, comment), fewest nodes, tokens per node)."""
    # Most ask for little, as two hundred in the time that a test may take must share the site.
    most_w = min(dice.randrange(nodes * 1_500, nodes * MAX_W + 1) for _ in range(2))
    count, fewest = str(nodes), nodes
    if nodes == 1 and dice.random() < 0.15:
        count = "1-2"  # it may get two, and is charged as if all of it could be on one
    tier = dice.choice(("", *(f" tier={each}" for each in TIERS)))
    rest = tier + dice.choice(("", " preempt=yes", " preempt=no", " class=default"))
    kinds = {"nothing": 1, "total": 4, "node": 2, "est": 1, "json": 2, "words": 2}
    match dice.choices(list(kinds), list(kinds.values()))[0]:
        case "nothing":
            return (count, ""), fewest, TOKENS_MAX_W
        case "total":
            return (count, f"power: max={most_w}W{rest}"), fewest, _tokens_w(most_w, fewest)
        case "node":
            each_w = most_w // nodes
            comment = f"power: est={each_w // 2}W/node max={each_w}W/node{rest}"
            return (count, comment), fewest, _tokens_w(each_w, 1)
        case "est":  # an estimate promises no maximum
            return (count, f"power: est={most_w / 1000:.3f}kW{rest}"), fewest, TOKENS_MAX_W
        case "json":
            said = {"maxPowerKW": most_w / 1000, "priority": dice.choice(TIERS)}
            return (count, json.dumps(said)), fewest, _tokens_w(most_w, fewest)
        case _:
            comment = f"run 7 of the sweep; power: max={most_w / 1e6:.6f}MW{rest}"
            return (count, comment), fewest, _tokens_w(most_w, fewest)


def _tokens_w(most_w: int, fewest: int) -> int:
    return min(-(-most_w // fewest) - IDLE_W, TOKENS_MAX_W)
