# SPDX-License-Identifier: GPL-2.0-or-later
"""The head node as its users and operators see it: commands, readers, and waiting for something."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

USERS = {"alice": "ml", "bob": "bio"}
BROKER, COLLECTOR, POSTGRES = "powerbrokerd", "powercollectord", "postgresql"
SETTINGS = Path("/etc/power-broker")
STATE_FILE = Path("/run/power-broker/admission.state")
RESOURCES = Path("/etc/slurm/resources.yaml")
PAUSE_S = 0.1
CYCLE_S = 1.0


@dataclass(frozen=True)
class Done:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err


def run(*words: str, user: str = "root", check: bool = True, within_s: float = 60) -> Done:
    """Run a command as somebody; a failure ends the test unless ``check`` is off."""
    who = [] if user == "root" else ["runuser", "-u", user, "--"]
    done = subprocess.run(
        [*who, *words],
        cwd="/tmp",
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=within_s,
        check=False,
    )
    if check and done.returncode != 0:
        raise AssertionError(
            f"{' '.join(words)}: exit {done.returncode}: {done.stdout}{done.stderr}"
        )
    return Done(done.returncode, done.stdout, done.stderr)


def wait(what: str, look: Callable[[], Any], *, within_s: float = 30) -> Any:
    """Look until there is something to see, and return it."""
    deadline = time.monotonic() + within_s
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(PAUSE_S)
    return found


def stays(what: str, look: Callable[[], Any], *, for_s: float) -> None:
    """It holds now, and goes on holding."""
    until = time.monotonic() + for_s
    while time.monotonic() < until:
        assert look(), f"it did not stay so for {for_s:g} s: {what}"
        time.sleep(PAUSE_S)


# -- jobs -----------------------------------------------------------------------------------------


def sbatch(user: str, *options: str, load: str = "", script: str = "sleep 600") -> Done:
    """Submit; ``load`` is what every process of it declares to the fleet (e.g. ``7.5kW``)."""
    burn = [f"--export=ALL,FLEET_LOAD={load}"] if load else []
    words = ["sbatch", "--parsable", "--output=/dev/null", *burn, *options, "--wrap", script]
    return run(*words, user=user, check=False)


def submit(user: str, *options: str, load: str = "", script: str = "sleep 600") -> int:
    done = sbatch(user, *options, load=load, script=script)
    assert done.status == 0, done.text
    return int(done.out.strip().split(";")[0])


def ticket(said: str) -> str:
    found = re.search(r"\[ticket (PW-[0-9A-Z]+)\]", said)
    assert found, f"no ticket in: {said}"
    return found[1]


def state(job: int | str) -> str:
    """Slurm's word, with the reason when it waits: ``PENDING JobHeldAdmin``."""
    return run("squeue", "-h", "-j", str(job), "-o", "%T %r", check=False).out.strip()


def is_running(job: int | str) -> bool:
    return state(job).startswith("RUNNING")


def wait_running(*jobs: int | str, within_s: float = 30) -> None:
    for job in jobs:
        wait(f"job {job} to run ({state(job)})", lambda job=job: is_running(job), within_s=within_s)


def job_field(job: int | str, name: str) -> str:
    """A field of ``scontrol show job``; comments are on lines of their own and may hold blanks."""
    shown = run("scontrol", "show", "job", str(job), check=False).out
    found = re.search(rf"(?m)(?:^|\s){name}=(\{{.*\}}|\S*)", shown)
    return found[1] if found else ""


def admitted(job: int | str) -> dict[str, Any]:
    """What the hook and the broker noted in the job."""
    found: dict[str, Any] = json.loads(job_field(job, "AdminComment") or "{}")
    return found


def restarts(job: int | str) -> int:
    return int(job_field(job, "Restarts") or 0)


def cancel_all() -> None:
    for user in USERS:
        run("scancel", "-u", user, check=False)
    wait("an empty queue", queue_is_empty, within_s=40)


def queue_is_empty() -> bool:
    done = run("squeue", "-h", check=False)
    return done.status == 0 and not done.out.strip()


# -- Slurm's power objects ------------------------------------------------------------------------


def slurm_reservations() -> dict[str, str]:
    """Names of Slurm's reservations and their nodes."""
    said = run("scontrol", "-o", "show", "reservation", check=False).out
    return dict(re.findall(r"ReservationName=(\S+).*? Nodes=(\S+)", said))


def fenced(rack: str) -> bool:
    return f"pw-fence-{rack}" in slurm_reservations()


def fences() -> list[str]:
    return [name for name in slurm_reservations() if name.startswith("pw-fence-")]


def layers_in_slurm() -> list[tuple[str, int]]:
    """(nodes, watts) of every token layer that slurmctld enforces."""
    said = run("scontrol", "show", "license", check=False).out
    blocks = said.split("LicenseName=")[1:]
    return sorted(
        (re.search(r"Nodes=(\S+)", block)[1], int(re.search(r"Total=(\d+)", block)[1]))  # type: ignore[index]
        for block in blocks
        if block.startswith("power\n") and "Nodes=" in block
    )


def layers_in_file() -> list[tuple[str, int]]:
    """The same, as resources.yaml says."""
    found = re.findall(r"nodes: \[(.*)\], count: (\d+)", RESOURCES.read_text())
    return sorted((nodes.replace('"', "").replace(" ", ""), int(count)) for nodes, count in found)


# -- powermgr and its neighbours ------------------------------------------------------------------


def powermgr(*words: str, user: str = "root") -> Done:
    return run("powermgr", *words, user=user, check=False)


def rows(*words: str) -> list[dict[str, Any]]:
    """Rows of ``powermgr --json ...``."""
    done = powermgr("--json", *words)
    assert done.status == 0, done.text
    found: list[dict[str, Any]] = json.loads(done.out)
    return found


def rack(name: str) -> dict[str, Any]:
    return next(row for row in rows("show", "rack") if row["name"] == name)


def actions(*where: str) -> list[dict[str, Any]]:
    return rows("show", "action", *([] if not where else ["where"]), *where, "limit=1000")


def broker_answers() -> bool:
    return powermgr("show", "rack").status == 0


def last_cycle() -> str:
    """When the last cycle looked; empty while there is none."""
    done = powermgr("--json", "show", "broker")
    return str(json.loads(done.out)[0]["last_cycle"] or "") if done.status == 0 else ""


def wait_cycles(count: int = 2) -> None:
    """Let the broker look at everything anew so often."""
    seen = {last_cycle(), ""}
    wait(f"{count} cycles", lambda: (seen.add(last_cycle()), len(seen) > count + 1)[1])


def sql(statement: str) -> list[list[str]]:
    """Rows of the ledger or the telemetry, read behind everybody's back."""
    words = ("psql", "-d", "power_broker", "-AtF", "|", "-c", statement)
    return [line.split("|") for line in run(*words, user="postgres").out.splitlines()]


def pid_of(unit: str) -> int:
    return int(run("systemctl", "show", "-P", "MainPID", unit).out)


def is_active(unit: str) -> bool:
    return run("systemctl", "is-active", "-q", unit, check=False).status == 0


def wait_restarted(unit: str, before: int) -> None:
    wait(f"systemd to start {unit} again", lambda: pid_of(unit) not in {0, before})


# -- the fleet ------------------------------------------------------------------------------------


def fleet(*words: str) -> str:
    return run("fleet", *words).out


def fleet_status() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(fleet("status", "--json"))
    return found


def answers() -> dict[str, int]:
    """Power polls that every device has answered since it was switched on."""
    found: dict[str, int] = json.loads(fleet("counts", "--json"))
    return found


def fleet_event(name: str, since: float, **facts: str) -> dict[str, Any] | None:
    """The first event of a kind since an instant."""
    events: Iterator[dict[str, Any]] = map(json.loads, fleet("log").splitlines())
    return next(
        (
            each
            for each in events
            if each["event"] == name
            and each["at"] >= since
            and all(each.get(key) == value for key, value in facts.items())
        ),
        None,
    )


# -- changing the head node for a while -----------------------------------------------------------


def policy_with(changes: dict[str, object]) -> str:
    """The installed policy with other values for some keys."""
    text = (SETTINGS / "policy.toml").read_text()
    for key, value in changes.items():
        text, times = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", text)
        assert times == 1, f"policy.toml has {key} {times} times"
    return text


@contextmanager
def policy(**changes: object) -> Iterator[None]:
    """The broker runs with another policy, and then with its own again."""
    path = SETTINGS / "policy.toml"
    before = path.read_text()
    path.write_text(policy_with(changes))
    try:
        restart_broker()
        yield
    finally:
        path.write_text(before)
        restart_broker()


def restart_broker() -> None:
    run("systemctl", "restart", BROKER)
    wait("the broker's first cycle", last_cycle)


def clean_up() -> None:
    """Whatever a test did: an idle, healthy, enforcing head node afterwards."""
    run("fleet", "reset")
    for unit in (POSTGRES, "slurmctld", COLLECTOR, BROKER):
        run("systemctl", "reset-failed", unit, check=False)
        run("systemctl", "start", unit)
    wait("the broker to answer", last_cycle)
    if rows("show", "broker")[0]["mode"] != "enforce":
        powermgr("-i", "modify", "broker", "mode=enforce")
    release_reservations()
    cancel_all()
    wait("nothing of ours left in Slurm", nothing_stands, within_s=60)


def release_reservations() -> None:
    for row in rows("show", "reservation"):
        if row["state"] in {"pending", "active"}:
            powermgr("-i", "delete", "reservation", f"name={row['name']}")


def nothing_stands() -> bool:
    """No fence, no reservation, every meter good, the inventory's layers, and the broker saw it."""
    return (
        not any(name.startswith("pw-") for name in slurm_reservations())
        and all(row["state"] == "ok" for row in rows("show", "rack"))
        and all(row["state"] == "IDLE" for row in rows("show", "node"))
        and len(layers_in_slurm()) == 7
        and layers_in_slurm() == layers_in_file()
    )


def burst(user: str, lines: Sequence[str]) -> Done:
    """Run a shell script as a user."""
    return run("bash", "-c", "\n".join(lines), user=user, within_s=120)
