# SPDX-License-Identifier: GPL-2.0-or-later
"""Mutated answers by the hundred thousand: `python -m tests.fuzz [--seed N] [--share 1.0]`.

Each target runs in processes of its own, so that one that dies or spins is a finding, not the end.
Exit status 1 when there is any. One case again: --target T --seed N --only CASE.
"""

import argparse
import faulthandler
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.fuzz.dcmi import fuzz_bmcs, fuzz_dcmi
from tests.fuzz.findings import Findings
from tests.fuzz.redfish import fuzz_http, fuzz_redfish, trees
from tests.fuzz.seeds import seeds
from tests.fuzz.snmp import fuzz_engine, fuzz_reader

ROOT = Path(__file__).resolve().parents[2]
#: Cases of each target; an SNMP case is two polls and a discovery, of which one or more mutated.
CASES = {"gufo": 50_000, "pysnmp": 8_000, "reader": 40_000}
CASES |= {"dcmi": 10_000, "bmcs": 3_000, "redfish": 15_000, "http": 1_500}
_CHUNK = 4_000
_CHUNK_AT_MOST_S = 600


def fuzz(target: str, *, seed: int, first: int, count: int) -> Findings:
    """One target in this process."""
    if target == "dcmi":
        return fuzz_dcmi(seed=seed, first=first, count=count)
    if target == "bmcs":
        return fuzz_bmcs(seed=seed, first=first, count=count)
    if target == "redfish":
        return fuzz_redfish(trees(_shared()), seed=seed, first=first, count=count)
    if target == "http":
        return fuzz_http(trees(_shared()), seed=seed, first=first, count=count)
    known = seeds(_shared())
    if target == "reader":
        return fuzz_reader(known, seed=seed, first=first, count=count)
    return fuzz_engine(target, known, seed=seed, first=first, count=count)


def _shared() -> Path | None:
    folder = Path(os.environ.get("SHARED_DATA") or ROOT.parent / "shared").resolve()
    return folder if (folder / "data" / "pdu").is_dir() else None


def _chunk(target: str, seed: int, first: int, count: int) -> dict[str, Any]:
    """Some cases of a target in a process of their own."""
    command = [sys.executable, "-m", "tests.fuzz", "--child", "--target", target]
    command += ["--seed", str(seed), "--first", str(first), "--count", str(count)]
    with tempfile.TemporaryFile("w+") as said_wrong:
        try:
            ended = subprocess.run(
                command,
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=said_wrong,
                text=True,
                timeout=_CHUNK_AT_MOST_S,
                check=False,
            )
            if ended.returncode == 0:
                told: dict[str, Any] = json.loads(ended.stdout)
                return told
            why = f"ended with status {ended.returncode}"
        except subprocess.TimeoutExpired:
            why = f"did not end in {_CHUNK_AT_MOST_S} s"
        said_wrong.seek(0)
        tail = said_wrong.read()[-1500:]
    where = f"--target {target} --seed {seed} --first {first} --count {count}"
    problem = f"the process {why} ({where})\n{tail}"
    return {
        "cases": 0,
        "mutated": 0,
        "outcomes": {},
        "problems": {"process": problem},
        "problem_count": 1,
    }


def _run(target: str, seed: int, cases: int) -> Findings:
    """All cases of a target, two processes at a time."""
    total = Findings(target, seed)
    chunks = [(first, min(_CHUNK, cases - first)) for first in range(0, cases, _CHUNK)]
    with ThreadPoolExecutor(1 if target == "bmcs" else os.cpu_count()) as pool:
        for told in pool.map(lambda chunk: _chunk(target, seed, *chunk), chunks):
            total.mutated += told["mutated"]
            total.cases += told["cases"]
            total.outcomes += Counter(told["outcomes"])
            total.problems = {**told["problems"], **total.problems}
            total.problem_count += told["problem_count"]
    return total


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, prog="python -m tests.fuzz")
    parser.add_argument("--seed", type=int, help="default: a new one, printed")
    parser.add_argument("--share", type=float, default=1.0, help="of the cases of a full run")
    parser.add_argument("--target", choices=CASES, help="only this one")
    parser.add_argument("--only", type=int, metavar="CASE", help="one case, in this process")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--count", type=int)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args(argv)
    seed = random.SystemRandom().randrange(10**6) if asked.seed is None else asked.seed
    if asked.target and (asked.only is not None or asked.count):
        faulthandler.dump_traceback_later(_CHUNK_AT_MOST_S - 10, exit=True)
        first, count = (asked.only, 1) if asked.only is not None else (asked.first, asked.count)
        found = fuzz(asked.target, seed=seed, first=first, count=count)
        print(found.as_line() if asked.child else _told(found))
        return 0 if asked.child or not found.problem_count else 1
    return _all(seed, asked.share, [asked.target] if asked.target else list(CASES))


def _all(seed: int, share: float, targets: Sequence[str]) -> int:
    known = len(seeds(_shared()))
    print(f"fuzz: seed {seed}, {known} devices' answers to mutate", flush=True)
    begun_s, mutated, problems = time.monotonic(), 0, 0
    for target in targets:
        found = _run(target, seed, max(int(CASES[target] * share), 1))
        print(_told(found), flush=True)
        mutated += found.mutated
        problems += found.problem_count
    spent_s = time.monotonic() - begun_s
    print(
        f"fuzz: {mutated:,} mutated answers in {spent_s:.0f} s, {problems} problems (seed {seed})"
    )
    return 1 if problems else 0


def _told(found: Findings) -> str:
    problems = [f"  PROBLEM {kind}: {what}" for kind, what in found.problems.items()]
    return "\n".join([found.summary(), *problems])


if __name__ == "__main__":
    sys.exit(main())
