# SPDX-License-Identifier: GPL-2.0-or-later
from pathlib import Path

import pytest

from tests.fleet.curves import parse_curve
from tests.fleet.loads import LoadScanner


class FakeProc:
    """A /proc with just what the scanner reads."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(self, pid: int, state: str = "S", **environment: str) -> None:
        process = self.root / str(pid)
        process.mkdir(exist_ok=True)
        entries = "".join(f"{name}={value}\0" for name, value in environment.items())
        (process / "environ").write_text(entries)
        (process / "stat").write_text(f"{pid} (a (strange) name) {state} 1 1 1")

    def end(self, pid: int) -> None:
        for entry in (self.root / str(pid)).iterdir():
            entry.unlink()
        (self.root / str(pid)).rmdir()


@pytest.fixture
def proc(tmp_path: Path) -> FakeProc:
    root = tmp_path / "proc"
    root.mkdir()
    return FakeProc(root)


@pytest.fixture
def complaints() -> list[tuple[str, str, str]]:
    return []


@pytest.fixture
def scanner(proc: FakeProc, complaints: list[tuple[str, str, str]]) -> LoadScanner:
    return LoadScanner(lambda *facts: complaints.append(facts), proc.root)


def job(job_id: int, load: str, node: str = "n01") -> dict[str, str]:
    return {"SLURMD_NODENAME": node, "SLURM_JOB_ID": str(job_id), "FLEET_LOAD": load}


def test_a_jobs_processes_count_once_with_the_largest(proc: FakeProc, scanner: LoadScanner) -> None:
    proc.run(10, **job(1, "7.5kW"))
    proc.run(11, **job(1, "7.5kW"))
    proc.run(12, **job(1, "300W"))
    assert scanner.scan(0) == {"n01": {"1": 7500}}


def test_jobs_and_nodes_are_told_apart(proc: FakeProc, scanner: LoadScanner) -> None:
    proc.run(10, **job(1, "1kW"))
    proc.run(11, **job(1, "1kW", node="n02"))
    proc.run(12, **job(2, "2kW", node="n02"))
    assert scanner.scan(0) == {"n01": {"1": 1000}, "n02": {"1": 1000, "2": 2000}}


def test_the_load_ends_with_the_process(proc: FakeProc, scanner: LoadScanner) -> None:
    proc.run(10, **job(1, "1kW"))
    scanner.scan(0)
    proc.end(10)
    assert scanner.scan(0.25) == {}


@pytest.mark.parametrize("state", ["T", "Z"])
def test_a_stopped_or_dead_process_draws_nothing(
    state: str, proc: FakeProc, scanner: LoadScanner
) -> None:
    proc.run(10, state, **job(1, "1kW"))
    assert scanner.scan(0) == {}


def test_a_shell_that_only_submits_draws_nothing(proc: FakeProc, scanner: LoadScanner) -> None:
    proc.run(10, FLEET_LOAD="7kW")
    assert scanner.scan(0) == {}


def test_an_environment_is_read_again_after_exec(proc: FakeProc, scanner: LoadScanner) -> None:
    proc.run(10, PATH="/bin")
    scanner.scan(0)
    proc.run(10, **job(1, "1kW"))
    assert scanner.scan(0.25) == {"n01": {"1": 1000}}


def test_an_old_process_that_execs_late_is_noticed_within_two_seconds(
    proc: FakeProc, scanner: LoadScanner
) -> None:
    proc.run(10, PATH="/bin")
    scanner.scan(0)
    proc.run(10, **job(1, "1kW"))
    scans = [scanner.scan(60 + 0.25 * number) for number in range(8)]
    assert {"n01": {"1": 1000}} in scans


def test_a_bad_load_is_reported_once_and_draws_nothing(
    proc: FakeProc, scanner: LoadScanner, complaints: list[tuple[str, str, str]]
) -> None:
    proc.run(10, **job(1, "7.5"))
    assert [scanner.scan(0), scanner.scan(0.25)] == [{}, {}]
    assert complaints == [
        ("n01", "1", "'7.5' is no power: allowed are numbers with W or kW, as in 7.5kW")
    ]


def test_a_curve_runs_from_the_first_sight_of_the_job(
    proc: FakeProc, scanner: LoadScanner, tmp_path: Path
) -> None:
    curve = tmp_path / "curve.csv"
    curve.write_text("0,0\n10,5000\n")
    proc.run(10, SLURMD_NODENAME="n01", SLURM_JOB_ID="1", FLEET_CURVE=str(curve))
    seen = [scanner.scan(at_s)["n01"]["1"] for at_s in (100, 104, 200)]
    assert seen == [0, 2000, 5000]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no points"),
        ("0;5", "line 1 '0;5' is not"),
        ("0,nan", "both from 0"),
        ("0,-5", "both from 0"),
        ("5,1\n5,2", "do not rise"),
    ],
)
def test_a_curve_that_is_none_is_refused(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        parse_curve(text)
