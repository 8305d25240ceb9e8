# SPDX-License-Identifier: GPL-2.0-or-later
"""The collector as a process, with the fleet's devices and a real Postgres that comes and goes."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from tests.support.postgres import Cluster

ROOT = Path(__file__).resolve().parents[2]
INTERVAL_S = 0.5
PATIENCE_S = 30.0
DEVICES = 24

pytestmark = pytest.mark.postgres


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# The same for all tests of a run: the fleet is restarted under a collector that knows them.
SNMP_PORT, BMC_PORT = _free_port(), _free_port()


def wait_for(what: str, condition: Callable[[], bool], *, within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {within_s:g} s: {what}"
        time.sleep(0.05)


@dataclass
class Fleet:
    """Simulated PDUs and BMCs that count the power polls they answered."""

    folder: Path
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self) -> None:
        command = [sys.executable, "-m", "tests.fleet", "serve", "--seed", "7"]
        command += ["--inventory", str(ROOT / "etc" / "inventory.toml")]
        command += ["--control", str(self.folder / "control"), "--log", str(self.folder / "log")]
        command += ["--snmp-port", str(SNMP_PORT), "--bmc-port", str(BMC_PORT)]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
        wait_for("the fleet serves", lambda: (self.folder / "control").exists())

    def tell(self, *words: str) -> str:
        command = [sys.executable, "-m", "tests.fleet", "--control", str(self.folder / "control")]
        return subprocess.run(
            [*command, *words], cwd=ROOT, check=True, capture_output=True, text=True
        ).stdout

    def counts(self) -> dict[str, int]:
        """Answered power polls of each device that answered any."""
        counts: dict[str, int] = json.loads(self.tell("counts", "--json"))
        return {device: count for device, count in counts.items() if count}

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(PATIENCE_S)


@dataclass
class Collector:
    """powercollectord with a configuration of its own."""

    folder: Path
    dsn: str
    process: subprocess.Popen[bytes] | None = None

    def configure(self, **polling: object) -> None:
        ports = {"snmp": SNMP_PORT, "ipmi": BMC_PORT}
        inventory = (ROOT / "etc" / "inventory.toml").read_text()
        inventory = re.sub(
            r"(snmp|ipmi)(://[\d.]+)", lambda m: f"{m[1]}{m[2]}:{ports[m[1]]}", inventory
        )
        (self.folder / "inventory.toml").write_text(inventory)
        secrets = self.folder / "secrets.toml"
        secrets.write_text((ROOT / "etc" / "secrets.toml").read_text())
        secrets.chmod(0o600)
        # Asked once: what a busy machine answers late would be given twice, and stored once.
        told = {
            "interval_s": INTERVAL_S,
            "timeout_s": 0.4,
            "spread_s": 0.1,
            "attempts": 1,
        } | polling
        lines = [f"{key} = {json.dumps(value)}" for key, value in told.items()]
        (self.folder / "collectors.toml").write_text(
            "[polling]\n" + "\n".join(lines) + "\n"
            f'[database]\ndsn = "{self.dsn}"\n[spool]\ndir = "{self.folder}/spool"\n'
        )

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "collectors.main", "--config", str(self.folder)],
            cwd=ROOT,
            stderr=log,
        )
        log.close()

    def end(self, number: signal.Signals) -> int:
        assert self.process is not None
        self.process.send_signal(number)
        status = self.process.wait(PATIENCE_S)
        self.process = None
        return status

    def workers(self) -> list[int]:
        """Process ids of the IPMI workers."""
        assert self.process is not None
        pid = self.process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def rows(self, statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(self.dsn) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[call-overload,no-any-return]

    def stored(self) -> dict[str, int]:
        return dict(self.rows("SELECT device, count(*) FROM samples GROUP BY device"))  # type: ignore[arg-type]

    def heard_all(self) -> bool:
        return len(self.stored()) == DEVICES


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    folder = tmp_path / "fleet"
    folder.mkdir()
    fleet = Fleet(folder)
    fleet.start()
    yield fleet
    fleet.stop()


@pytest.fixture
def collector(tmp_path: Path, fleet: Fleet, database_dsn: str) -> Iterator[Collector]:
    folder = tmp_path / "collector"
    folder.mkdir()
    collector = Collector(folder, database_dsn)
    collector.configure()
    collector.start()
    yield collector
    if collector.process is not None:
        collector.end(signal.SIGKILL)


def test_every_answer_is_one_row(fleet: Fleet, collector: Collector) -> None:
    wait_for("all devices are stored", collector.heard_all)
    first = collector.stored()
    wait_for("five polls more of all", lambda: _all_grew(first, collector.stored(), by=5))

    assert collector.end(signal.SIGTERM) == 0

    assert collector.stored() == fleet.counts()
    assert collector.rows("SELECT DISTINCT quality FROM samples") == [("good",)]


@pytest.mark.parametrize("engine", ["gufo", "pysnmp"])
def test_both_engines_fill_the_table(fleet: Fleet, collector: Collector, engine: str) -> None:
    collector.end(signal.SIGTERM)
    collector.configure(snmp_engine=engine)
    collector.start()
    before = collector.stored()
    wait_for("new rows of r1.B", lambda: collector.stored().get("r1.B", 0) > before.get("r1.B", 0))

    collector.end(signal.SIGTERM)

    assert collector.stored() == fleet.counts()
    [(power_w, apparent_va)] = collector.rows(
        "SELECT active_power_w, apparent_power_va FROM samples"
        " WHERE device = 'r1.B' ORDER BY polled_at DESC LIMIT 1"
    )
    assert 1_800 < power_w < 2_200  # type: ignore[operator]  # half of four idle nodes
    assert apparent_va >= power_w  # type: ignore[operator]


def test_postgres_away_and_the_collector_killed_in_the_middle_lose_nothing(
    fleet: Fleet, collector: Collector, postgres_cluster: Cluster
) -> None:
    wait_for("all devices are stored", collector.heard_all)
    postgres_cluster.stop()
    try:
        wait_for("it spools", lambda: "spooling" in collector.log())
        spooled = fleet.counts()
        wait_for("more is spooled", lambda: _all_grew(spooled, fleet.counts(), by=3))
        _kill_between_polls(fleet, collector)
        killed = fleet.counts()
        collector.start()
        wait_for("a second life polls", lambda: _all_grew(killed, fleet.counts(), by=3))
    finally:
        postgres_cluster.start()
    wait_for("it is back", lambda: "Postgres is back" in collector.log())
    collector.end(signal.SIGTERM)

    assert collector.stored() == fleet.counts()
    assert len(list((collector.folder / "spool").iterdir())) <= 2


def test_postgres_crashing_again_and_again_stores_nothing_twice_and_nothing_less(
    fleet: Fleet, collector: Collector, postgres_cluster: Cluster
) -> None:
    wait_for("all devices are stored", collector.heard_all)
    for _ in range(3):
        before = fleet.counts()
        postgres_cluster.stop()
        postgres_cluster.start()
        wait_for("polling goes on", lambda before=before: _all_grew(before, fleet.counts(), by=2))  # type: ignore[misc]
    collector.end(signal.SIGTERM)

    assert collector.stored() == fleet.counts()


def test_a_postgres_that_hangs_does_not_hold_up_the_polling(
    fleet: Fleet, collector: Collector
) -> None:
    wait_for("all devices are stored", collector.heard_all)
    [(backend,)] = collector.rows(
        "SELECT pid FROM pg_stat_activity WHERE application_name = 'powercollectord'"
    )
    assert isinstance(backend, int)
    os.kill(backend, signal.SIGSTOP)
    try:
        before = fleet.counts()
        wait_for("polling goes on", lambda: _all_grew(before, fleet.counts(), by=4), within_s=5)
    finally:
        os.kill(backend, signal.SIGCONT)
    collector.end(signal.SIGTERM)

    assert collector.stored() == fleet.counts()


def test_sigterm_while_postgres_is_away_keeps_all_for_the_next_life(
    fleet: Fleet, collector: Collector, postgres_cluster: Cluster
) -> None:
    wait_for("all devices are stored", collector.heard_all)
    postgres_cluster.stop()
    try:
        spooled = fleet.counts()
        wait_for("it polls on", lambda: _all_grew(spooled, fleet.counts(), by=2))
        assert collector.end(signal.SIGTERM) == 0
    finally:
        postgres_cluster.start()
    collector.start()
    wait_for("the spool is stored", lambda: _all_grew(spooled, collector.stored(), by=2))
    collector.end(signal.SIGTERM)

    assert collector.stored() == fleet.counts()


def test_a_silent_device_is_marked_once_and_delays_nobody(
    fleet: Fleet, collector: Collector
) -> None:
    wait_for("all devices are stored", collector.heard_all)
    fleet.tell("mute", "r3.B")
    fleet.tell("mute", "n05.bmc")
    wait_for("both are marked", lambda: set(_silent(collector)) == {"r3.B", "n05.bmc"})
    marked = collector.stored()
    wait_for("the others go on", lambda: collector.stored()["n06.bmc"] >= marked["n06.bmc"] + 10)
    going_on = collector.stored()

    assert abs(going_on["r1.A"] - going_on["n06.bmc"]) <= 2
    assert going_on["r3.B"] == marked["r3.B"]
    for note in _silent(collector).values():
        assert re.match(r"no answer for [1-3] s: timed out after 0\.[45] s", note), note

    fleet.tell("unmute", "r3.B")
    fleet.tell("unmute", "n05.bmc")
    wait_for("both are back", lambda: not _silent(collector))
    log = collector.log()
    for device in ("r3.B", "n05.bmc"):
        assert len(re.findall(rf"{device}: no answer for", log)) == 1
        assert len(re.findall(rf"{device}: answers again after", log)) == 1
    collector.end(signal.SIGTERM)
    assert collector.stored() == fleet.counts()


def test_a_lie_is_stored_with_its_reason_and_changes_no_good_value(
    fleet: Fleet, collector: Collector
) -> None:
    wait_for("all devices are stored", collector.heard_all)
    fleet.tell("lie", "r4.B", "0W")
    fleet.tell("lie", "r4.A", "-1")
    wait_for(
        "both lies are seen",
        lambda: (
            {q for (q,) in _latest(collector, "quality", "r4.A", "r4.B")}
            == {"implausible", "not_supported"}
        ),
    )

    [(power_w, note, good_w)] = _latest(collector, "active_power_w, note, good_power_w", "r4.B")
    assert power_w == 0
    assert re.fullmatch(r"0 W from a device that drew [12],\d{3} W", str(note))
    assert good_w > 1_800  # type: ignore[operator]

    fleet.tell("reset")
    wait_for(
        "both are good again",
        lambda: {q for (q,) in _latest(collector, "quality", "r4.A", "r4.B")} == {"good"},
    )


def test_a_restarted_collector_still_doubts_a_sudden_zero(
    fleet: Fleet, collector: Collector
) -> None:
    wait_for("all devices are stored", collector.heard_all)
    collector.end(signal.SIGTERM)
    fleet.tell("lie", "r4.B", "0W")
    collector.start()
    before = collector.stored()["r4.B"]
    wait_for("it is polled again", lambda: collector.stored()["r4.B"] > before)

    assert _latest(collector, "quality", "r4.B") == [("implausible",)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stuck"])
def test_an_ipmi_worker_that_is_gone_is_replaced(
    fleet: Fleet, collector: Collector, number: signal.Signals
) -> None:
    wait_for("all devices are stored", collector.heard_all)
    [worker] = collector.workers()
    os.kill(worker, number)
    wait_for("another worker", lambda: collector.workers() not in ([], [worker]))
    before = collector.stored()
    wait_for("BMCs are read", lambda: collector.stored()["n16.bmc"] > before["n16.bmc"])

    assert not Path(f"/proc/{worker}").exists()


def test_a_restarted_bmc_is_logged_in_to_again(fleet: Fleet, collector: Collector) -> None:
    wait_for("all devices are stored", collector.heard_all)
    fleet.stop()
    fleet.start()
    before = collector.stored()

    wait_for("all are read again", lambda: _all_grew(before, collector.stored(), by=1))


def _all_grew(before: dict[str, int], now: dict[str, int], *, by: int) -> bool:
    return all(now[device] >= count + by for device, count in before.items())


def _silent(collector: Collector) -> dict[str, str]:
    return dict(
        collector.rows("SELECT device, note FROM latest WHERE silent_since IS NOT NULL")  # type: ignore[arg-type]
    )


def _latest(collector: Collector, columns: str, *devices: str) -> list[tuple[object, ...]]:
    names = ", ".join(f"'{each}'" for each in devices)
    return collector.rows(f"SELECT {columns} FROM latest WHERE device IN ({names})")


def _kill_between_polls(fleet: Fleet, collector: Collector) -> None:
    """Kill -9 when no answer is on its way: one that arrives at nobody is in nobody's spool."""
    counts = fleet.counts()
    wait_for("a round begins", lambda: fleet.counts() != counts)
    wait_for("the round is over", lambda: len(set(fleet.counts().values())) <= 3)
    settled = fleet.counts()
    time.sleep(INTERVAL_S * 0.1)
    while (now := fleet.counts()) != settled:
        settled = now
    collector.end(signal.SIGKILL)
