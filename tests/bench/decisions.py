# SPDX-License-Identifier: GPL-2.0-or-later
"""What decisions cost: one cycle's plan at 1,000 nodes, and one answer of the hook.

Printed, never asserted. The rival of the plan is a plain copy of the same observation through JSON;
the rival of the hook is Lua reading the same file and doing nothing with it.

    python -m tests.bench.decisions
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from broker.services.observed import Memory
from broker.services.plan import plan_cycle
from broker.services.plan_tokens import plan_tokens
from tests.support.builders import (
    RULES,
    a_graph,
    a_job,
    a_pending_job,
    observed,
    telemetry,
)
from tests.unit.hook import lua
from tests.unit.hook.test_cases import LAB_STATE

_RUNS = 5
_STATES = 100


def main() -> None:
    """Print both tables."""
    _plan()
    _hook()


def _plan() -> None:
    rows = {f"row{i}": {f"r{i}-{j}": 10 for j in range(10)} for i in range(10)}
    graph = a_graph(rows=rows, rack_w=60_000, row_w=450_000, site_w=3_000_000)
    jobs = [a_job(i + 1, name, tokens_w=5_000) for i, name in enumerate(graph.nodes)]
    pending = [a_pending_job(2_000 + i) for i in range(200)]
    over = dict.fromkeys([rack.name for rack in graph.racks[:20]], 65_000)
    meters = telemetry(graph, over, bmc_w=dict.fromkeys(graph.nodes, 6_500))
    seen = observed([*jobs, *pending], graph=graph, meters=meters, tokens_enforced=False)

    def decide() -> None:
        _, pools = plan_tokens(graph, seen, RULES)
        plan_cycle(graph, seen, Memory(), RULES, pools)

    copy_s = _least_s(lambda: json.loads(json.dumps(asdict(seen.view), default=str)))
    plan_s = _least_s(decide)
    print("one cycle's plan: 1,000 nodes, 1,200 jobs, 100 racks, 20 of them over their limit")
    print(f"  plan          {plan_s * 1000:8.1f} ms of CPU")
    print(f"  JSON and back {copy_s * 1000:8.1f} ms of CPU (of Slurm's view alone)")


def _least_s(work: Callable[[], object]) -> float:
    """CPU seconds of the quickest run: what the machine does besides is not ours."""
    found = []
    for _ in range(_RUNS):
        begin = time.process_time()
        work()
        found.append(time.process_time() - begin)
    return min(found)


def _hook() -> None:
    with tempfile.TemporaryDirectory() as folder:
        states = _states(Path(folder))
        reader = Path(folder, "read.lua")
        reader.write_text("for _, p in ipairs(arg) do local f = io.open(p); f:read('*a') end\n")
        cases = [
            {
                "state_file": str(path),
                "spool": str(Path(folder, "spool")),
                "now": lua.NOON,
                "job": dict(lua.PLAIN_JOB) | {"min_nodes": 8},
            }
            for path in states
        ]
        empty_s = min(lua.timed([])[1] for _ in range(_RUNS))
        judged_s = min(lua.timed(cases)[1] for _ in range(_RUNS)) - empty_s
        command = ["lua5.1", str(reader), *map(str, states)]
        read_s = min(_wall_s(command) for _ in range(_RUNS)) - _wall_s(["lua5.1", "-v"])
    print("one answer of the hook: a state of 64 KB, another one for each job")
    print(f"  read, take apart, judge, write a verdict {judged_s / _STATES * 1000:6.2f} ms")
    print(f"  Lua reading the file alone               {read_s / _STATES * 1000:6.2f} ms")


def _states(folder: Path) -> list[Path]:
    layer = (
        "layer name=r{0} kind=rack safe_w=32000 nodes=4 tokens_ever_w=28000 tokens_now_w=28000"
        " nodes_now=4 fenced=0 parents=a,lab\n"
    )
    head, end = LAB_STATE.split("end generation", 1)
    racks = "".join(layer.format(number) for number in range(100, 1000))
    text = (head + racks)[:65_400].rsplit("\n", 1)[0] + "\nend generation" + end
    paths = []
    for number in range(_STATES):
        path = folder / f"{number}.state"
        path.write_text(text.replace("room_w=108000", f"room_w={108_000 + number}"))
        paths.append(path)
    return paths


def _wall_s(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
