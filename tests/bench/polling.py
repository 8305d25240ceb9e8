# SPDX-License-Identifier: GPL-2.0-or-later
"""What polling costs: the real powercollectord and Postgres, simulated PDUs and BMCs.

    python -m tests.bench.polling [--pdus 2000] [--bmcs 500] [--seconds 60]

Counted are powercollectord's processes; the simulators and Postgres are not (the latter's share
is printed). Answer to commit is from Postgres' own commit time of each row.
"""

import argparse
import os
import resource
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

import migrations
from tests.bench import exporter
from tests.bench.plot import draw_costs
from tests.bench.processes import Cost, Helper, cpu_s, every, family, measure, start_collector
from tests.bench.site import Site, configure, free_port
from tests.support.postgres import Cluster

INTERVAL_S = 10.0
TIMEOUT_S = 3.0
TARGET_CORES, TARGET_MB, TARGET_P99_S = 0.6, 400, 1.5
# As an operator's server: durable. The time of each commit is what the age is taken from.
SERVER_OPTIONS = ("-c", "listen_addresses=", "-c", "track_commit_timestamp=on")
_AGES = """
    SELECT percentile_disc(ARRAY[0.5, 0.99, 1.0]) WITHIN GROUP (ORDER BY age_s)
    FROM (SELECT extract(epoch FROM pg_xact_commit_timestamp(xmin) - polled_at) AS age_s
          FROM samples WHERE polled_at >= %s) AS ages"""


@dataclass(frozen=True, slots=True)
class Run:
    """One measured run of a site."""

    site: Site
    cost: Cost
    main_cpu_s: float  #: of the process that polls PDUs and stores
    postgres_cpu_s: float
    start_cpu_s: float  #: until every device was stored once: discovery, logins
    polls: int  #: stored in the measured time
    objects: Mapping[str, int]  #: polls by the number of objects asked in one
    age_s: tuple[float, float, float]  #: median, p99, most
    answered: int
    stored: int
    wrong: tuple[str, ...]  #: devices whose rows are not their answers


def run(site: Site, cluster: Cluster, *, for_s: float, folder: Path) -> Run:
    """Poll a site for a time, everything started and ended here."""
    database = folder.name
    cluster.execute(f"CREATE DATABASE {database}")
    migrations.upgrade(cluster.url(database))
    dsn = cluster.dsn(database)
    spread_s = INTERVAL_S - 1
    configure(folder, site, dsn, interval_s=INTERVAL_S, timeout_s=TIMEOUT_S, spread_s=spread_s)
    with _simulators(site, folder) as (agents, bmcs):
        collector = start_collector(folder)
        try:
            with psycopg.connect(dsn, autocommit=True) as connection:
                _wait_until_all_stored(connection, site, folder)
                pids, server = family(collector.pid), family(cluster.pid)
                start_cpu_s, main_s, server_s = cpu_s(pids), cpu_s(pids[:1]), cpu_s(server)
                begun = connection.execute("SELECT now()").fetchone()
                cost = measure(pids, lambda: time.sleep(for_s))
                main_s, server_s = cpu_s(pids[:1]) - main_s, _grown(server, server_s)
                polls = connection.execute(
                    "SELECT count(*) FROM samples WHERE polled_at >= %s", begun
                ).fetchone()
                time.sleep(1)  # the last of them commit
                ages = connection.execute(_AGES, begun).fetchone()
                collector.send_signal(signal.SIGTERM)
                assert collector.wait(30) == 0, (folder / "log").read_text()[-2000:]
                rows = connection.execute("SELECT device, count(*) FROM samples GROUP BY device")
                stored = dict(rows.fetchall())
        finally:
            if collector.poll() is None:
                os.kill(collector.pid, signal.SIGKILL)
                collector.wait()
        told, answered = agents.result(), dict(bmcs.result())
    for name, host in site.pdu_hosts().items():
        answered[name] = told["devices"].get(host, {}).get("answered", 0)
    assert polls is not None
    assert ages is not None
    return Run(
        site=site,
        cost=cost,
        main_cpu_s=main_s,
        postgres_cpu_s=server_s,
        start_cpu_s=start_cpu_s,
        polls=polls[0],
        objects=told["objects_asked"],
        age_s=tuple(float(each) for each in ages[0]),
        answered=sum(answered.values()),
        stored=sum(stored.values()),
        wrong=tuple(name for name, count in answered.items() if stored.get(name, 0) != count),
    )


@contextmanager
def _simulators(site: Site, folder: Path) -> Iterator[tuple[Helper, Helper]]:
    where = ("--port", str(site.snmp_port), "--timeout", str(TIMEOUT_S))
    agents = Helper("tests.bench.agents", *where)
    inventory = str(folder / "inventory.toml")
    bmcs = Helper("tests.bench.bmcs", "--inventory", inventory, "--port", str(site.bmc_port))
    try:
        yield agents, bmcs
    finally:
        agents.end()
        bmcs.end()


def _wait_until_all_stored(connection: psycopg.Connection, site: Site, folder: Path) -> None:
    count = 0
    for _ in every(0.5, within_s=12 * INTERVAL_S):
        row = connection.execute("SELECT count(*) FROM latest WHERE polled_at IS NOT NULL")
        [count] = row.fetchone() or (0,)
        if count == site.pdus + site.bmcs:
            return
    log = (folder / "log").read_text()[-2000:]
    raise AssertionError(f"only {count} of {site.pdus + site.bmcs} devices are stored\n{log}")


def _grown(pids: list[int], before_s: float) -> float:
    return cpu_s([pid for pid in pids if Path(f"/proc/{pid}").exists()]) - before_s


def report(done: Run) -> bool:
    """Print one run; whether it meets the targets."""
    cost, site = done.cost, done.site
    objects = ", ".join(f"{count} of {n}" for n, count in sorted(done.objects.items()))
    met = [
        cost.cores < TARGET_CORES,
        cost.memory_mb < TARGET_MB,
        done.age_s[1] <= TARGET_P99_S,
        not done.wrong,
    ]
    lines = [
        ("cores", f"{cost.cores:.3f}", f"< {TARGET_CORES}", met[0]),
        ("memory, MB (PSS)", f"{cost.memory_mb:.0f}", f"< {TARGET_MB}", met[1]),
        ("p99 age when durable, s", f"{done.age_s[1]:.2f}", f"<= {TARGET_P99_S}", met[2]),
        ("devices with rows unlike answers", str(len(done.wrong)), "0", met[3]),
    ]
    print(f"\n{site.pdus} PDUs and {site.bmcs} BMCs every {INTERVAL_S:g} s, {cost.wall_s:.0f} s:")
    for what, figure, target, kept in lines:
        print(f"  {what:<34}{figure:>10}  {target:<8} {'ok' if kept else 'MISSED'}")
    print(f"  answers {done.answered}, rows {done.stored}; GETs by their objects: {objects}")
    print(
        f"  CPU per poll {1e3 * cost.cpu_s / done.polls:.2f} ms, of it IPMI workers"
        f" {1e3 * (cost.cpu_s - done.main_cpu_s) / done.polls:.2f} ms;"
        f" until all were stored once {done.start_cpu_s:.1f} s"
    )
    print(
        f"  age median {done.age_s[0]:.2f} s, most {done.age_s[2]:.2f} s; Postgres beside it"
        f" {done.postgres_cpu_s / cost.wall_s:.3f} cores; load {os.getloadavg()[0]:.1f}"
    )
    if done.wrong:
        print(f"  rows unlike answers: {', '.join(done.wrong[:8])}")
    return all(met)


def compare_exporter(done: Run, folder: Path, *, for_s: float) -> None:
    """The same PDUs at the same rate through prometheus-snmp-exporter."""
    if not exporter.installed():
        print("\nprometheus-snmp-exporter: not installed, no comparison")
        return
    per_s = done.site.pdus / INTERVAL_S
    targets = [f"{host}:{done.site.snmp_port}" for host in done.site.pdu_hosts().values()]
    agents = Helper("tests.bench.agents", "--port", str(done.site.snmp_port))
    try:
        cost, scrapes = exporter.scrape(targets, per_s=per_s, for_s=for_s, folder=folder)
    finally:
        agents.end()
    ours_ms = 1e3 * done.main_cpu_s / (done.polls * done.site.pdus / _devices(done.site))
    theirs_ms = 1e3 * cost.cpu_s / scrapes
    print(
        f"\nprometheus-snmp-exporter: {scrapes} scrapes of {len(targets)} PDUs, {per_s:.0f}/s:"
        f" {cost.cores:.3f} cores, {theirs_ms:.2f} ms each (no Prometheus, nothing stored)\n"
        f"powercollectord: {ours_ms:.2f} ms for each PDU's poll, judged and stored;"
        f" ratio exporter : powercollectord = {theirs_ms / ours_ms:.2f}"
    )


def _devices(site: Site) -> int:
    return site.pdus + site.bmcs


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pdus", type=int, default=2000)
    parser.add_argument("--bmcs", type=int, default=500)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--curve", action="store_true", help="smaller sites too, and a plot")
    parser.add_argument("--plot", type=Path, default=Path("build/bench-polling.png"))
    asked = parser.parse_args()
    _as_systemd_starts_services()
    shares = (0.125, 0.25, 0.5, 1.0) if asked.curve else (1.0,)
    cluster = Cluster(SERVER_OPTIONS)
    work = Path(tempfile.mkdtemp(prefix="bench"))
    try:
        cluster.start()
        runs = []
        for share in shares:
            pdus, bmcs = int(asked.pdus * share), int(asked.bmcs * share)
            site = Site(pdus, bmcs, free_port(), free_port())
            for_s = asked.seconds if share == 1 else max(asked.seconds / 3, 2 * INTERVAL_S)
            runs.append(run(site, cluster, for_s=for_s, folder=work / f"bench_{pdus}"))
            met = report(runs[-1])
        compare_exporter(runs[-1], work, for_s=max(asked.seconds / 3, INTERVAL_S))
    finally:
        cluster.destroy()
        shutil.rmtree(work)
    if asked.curve:
        draw_costs(asked.plot, [(_devices(r.site), r.cost.cores, r.cost.memory_mb) for r in runs])
    return 0 if met else 1


def _as_systemd_starts_services() -> None:
    """With 1,024 open files: that more are wanted is for the collector to see."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))


if __name__ == "__main__":
    raise SystemExit(main())
