# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab itself, from outside: run on the host as root (make test does)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
BOOT_AT_MOST_S = 30


class Lab:
    """The lab script, as somebody types it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, *words: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        command = [str(HERE / "lab"), "--name", self.name, *words]
        return subprocess.run(command, input=stdin, capture_output=True, text=True, check=False)

    def says(self, *words: str) -> str:
        done = self("exec", *words)
        assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def comes_to_say(self, words: str, *command: str, within_s: float) -> None:
        deadline_s = time.monotonic() + within_s
        while (said := self.says(*command)) != words:
            assert time.monotonic() < deadline_s, f"after {within_s} s it still says: {said}"
            time.sleep(0.5)

    def boot(self) -> float:
        """Seconds until it is up."""
        self("down")
        started_s = time.monotonic()
        done = self("up")
        assert done.returncode == 0, done.stdout + done.stderr
        return time.monotonic() - started_s


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    yield from _booted(f"pb-test-{os.getpid()}-a")


@pytest.fixture(scope="module")
def neighbour(lab: Lab) -> Iterator[Lab]:
    yield from _booted(f"pb-test-{os.getpid()}-b")


def _booted(name: str) -> Iterator[Lab]:
    lab = Lab(name)
    lab.boot()
    yield lab
    lab("down")


def test_sixteen_nodes_are_idle_in_both_lanes(lab: Lab) -> None:
    # Not at once: a broker that has just started fences until it has seen enough.
    lanes = "hot* 16 idle\ncold 16 idle"
    lab.comes_to_say(lanes, "sinfo", "-h", "-o", "%P %D %t", within_s=60)


def test_the_daemons_run_as_their_own_users_under_systemd(lab: Lab) -> None:
    for unit, user in {"powerbrokerd": "powerbroker", "powercollectord": "powercollect"}.items():
        assert lab.says("systemctl", "is-active", unit) == "active"
        assert lab.says("systemctl", "is-enabled", unit) == "enabled"
        pid = lab.says("systemctl", "show", "--value", "--property=MainPID", unit)
        assert lab.says("ps", "-o", "user:20=", "-p", pid) == user


def test_no_unit_failed(lab: Lab) -> None:
    assert lab.says("systemctl", "--failed", "--no-legend", "--plain") == ""


def test_exec_passes_stdin_stdout_stderr_and_the_status(lab: Lab) -> None:
    done = lab("exec", "sh", "-c", "cat; echo oops >&2; exit 7", stdin="watts\n")
    assert (done.stdout, done.stderr, done.returncode) == ("watts\n", "oops\n", 7)


def test_exec_as_a_user_has_that_users_groups_and_home(lab: Lab) -> None:
    words = "echo $(id -un) $(id -Gn) $HOME $PWD $USER"
    assert lab.says("--user", "alice", "sh", "-c", words) == (
        "alice alice /home/alice /home/alice alice"
    )


def test_exec_finds_the_suites_commands(lab: Lab) -> None:
    assert lab.says("sh", "-c", "command -v powermgr") == "/usr/local/bin/powermgr"


def test_an_unknown_user_is_one_line(lab: Lab) -> None:
    done = lab("exec", "--user", "carol", "true")
    assert (done.returncode, done.stderr) == (
        1,
        "lab: no user 'carol' in the lab; try root, alice or bob\n",
    )


def test_a_users_job_runs_and_is_accounted(lab: Lab) -> None:
    lab.says("--user", "alice", "sbatch", "--wait", "-N2", "--wrap", "srun -l hostname")
    assert "head" in lab.says("--user", "alice", "sh", "-c", "cat slurm-*.out")
    accounted = lab.says("sacct", "-aXnP", "-o", "user,account,state,nnodes")
    assert "alice|ml|COMPLETED|2" in accounted


def test_the_checkout_is_read_only_inside(lab: Lab) -> None:
    assert lab("exec", "touch", "/src/written-from-the-lab").returncode != 0


def test_logs_of_a_unit_are_shown(lab: Lab) -> None:
    assert "slurmctld" in lab("logs", "slurmctld").stdout


def test_up_twice_is_refused_in_one_line(lab: Lab) -> None:
    done = lab("up")
    assert done.returncode == 1
    assert done.stderr == (
        f"lab: lab '{lab.name}' is already up; for a clean one: tests/lab/lab down\n"
    )


def test_install_again_changes_nothing_of_the_operators(lab: Lab) -> None:
    lab.says("sh", "-c", "echo '# mine' >>/etc/power-broker/policy.toml")
    said = lab.says("/src/install.sh")
    assert lab.says("tail", "-n1", "/etc/power-broker/policy.toml") == "# mine"
    for made_before in ("user power", "folder ", "role ", "database power_broker", "links to"):
        assert made_before not in said
    assert said.splitlines()[-1] == "install: done"


def test_units_are_clean_and_hardened(lab: Lab) -> None:
    ours = "cd /etc/systemd/system && systemd-analyze verify power*.service fleet.service"
    assert lab.says("sh", "-c", f"{ours} slurmd@n01.service 2>&1") == ""
    for unit, at_most in {"powerbrokerd": 2.5, "powercollectord": 2.0}.items():
        said = lab.says("systemd-analyze", "security", "--no-pager", f"{unit}.service")
        exposure = float(re.search(r"Overall exposure level for \S+: ([\d.]+)", said)[1])
        assert exposure <= at_most


def test_two_labs_do_not_reach_each_other(lab: Lab, neighbour: Lab) -> None:
    neighbour.says("systemctl", "kill", "--signal=KILL", "slurmd@n01", "fleet")
    neighbour.says("systemctl", "stop", "slurmctld")
    assert lab.says("systemctl", "is-active", "slurmd@n01", "fleet", "slurmctld") == (
        "active\nactive\nactive"
    )
    assert "down" not in lab.says("sinfo", "-h", "-p", "hot", "-o", "%D %t")


def test_a_lab_that_was_dropped_boots_clean_in_time(neighbour: Lab) -> None:
    neighbour.says("touch", "/etc/left-behind")
    assert neighbour.boot() < BOOT_AT_MOST_S
    assert neighbour("exec", "test", "-e", "/etc/left-behind").returncode == 1
    assert neighbour.says("sacct", "-aXn") == ""


def test_down_ends_everything_of_it() -> None:
    lab = Lab(f"pb-test-{os.getpid()}-c")
    lab.boot()
    lab("down")
    done = lab("exec", "true")
    assert (done.returncode, done.stderr) == (
        1,
        f"lab: lab '{lab.name}' is not up; start it with: tests/lab/lab up\n",
    )
    assert lab.name not in subprocess.check_output(["ps", "-eo", "args"], text=True)


def test_without_root_one_line_says_so() -> None:
    # A user may not be allowed to read the checkout, so it gets a copy of the script.
    copy = Path(tempfile.mkdtemp())
    shutil.copytree(HERE, copy / "tests/lab", ignore=shutil.ignore_patterns("__pycache__"))
    copy.chmod(0o755)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = subprocess.run(
        [*nobody, copy / "tests/lab/lab", "up"], capture_output=True, text=True, check=False
    )
    shutil.rmtree(copy)
    assert (done.returncode, done.stderr) == (
        1,
        "lab: the lab needs root (it starts a container); run it with sudo\n",
    )


@pytest.mark.parametrize(
    ("number", "release"),
    [
        ("0x180b05", "24.11"),
        ("0x1b0500", "27.05"),
    ],
)
def test_build_pyslurm_names_the_release_it_cannot_do(lab: Lab, number: str, release: str) -> None:
    header = "/tmp/headers/slurm/slurm_version.h"
    define = f"#define SLURM_VERSION_NUMBER {number}"
    lab.says("sh", "-c", f"mkdir -p $(dirname {header}); echo '{define}' >{header}")
    done = lab("exec", "env", "SLURM_INCLUDE_DIR=/tmp/headers", "/src/slurm_plugin/build-pyslurm")
    assert (done.returncode, done.stderr) == (
        1,
        (
            f"build-pyslurm: Slurm {release} is not supported: "
            "pyslurm 25.11.2 builds against 25.11 and 26.05\n"
        ),
    )
