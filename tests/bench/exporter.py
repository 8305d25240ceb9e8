# SPDX-License-Identifier: GPL-2.0-or-later
"""The same polling by Debian's prometheus-snmp-exporter: its CPU, asked by a light client."""

import http.client
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from tests.bench.agents import POLLED
from tests.bench.processes import Cost, every, family, measure

_CLIENTS = 8
_PORT = 19116


def installed() -> bool:
    return shutil.which("prometheus-snmp-exporter") is not None


def scrape(targets: Sequence[str], *, per_s: float, for_s: float, folder: Path) -> tuple[Cost, int]:
    """Scrape targets in turn at a steady rate; the exporter's cost and the scrapes that came back.

    The client's CPU is not counted, and neither is a Prometheus that would store the answers.
    """
    config = folder / "snmp.yml"
    config.write_text(_config())
    process = subprocess.Popen(
        [
            "prometheus-snmp-exporter",
            f"--config.file={config}",
            f"--web.listen-address=127.0.0.1:{_PORT}",
            "--log.level=error",
        ]
    )
    try:
        _wait_until_up()
        done: list[int] = []
        _ask_all(targets[:_CLIENTS], per_s, 1.0, [])  # its own warming up is not counted
        cost = measure(family(process.pid), lambda: _ask_all(targets, per_s, for_s, done))
    finally:
        process.terminate()
        process.wait()
    return cost, len(done)


def _config() -> str:
    lines = ["bench:", "  get:", *(f"  - {each}" for each in POLLED), "  metrics:"]
    for nth, each in enumerate(POLLED):
        lines += [f"  - name: object{nth}", f"    oid: {each.rpartition('.')[0]}"]
        lines += ["    type: gauge", f"    help: object {nth}"]
    return "\n".join([*lines, "  version: 2", "  auth:", "    community: public", ""])


def _wait_until_up() -> None:
    for _ in every(0.05, within_s=10):
        connection = http.client.HTTPConnection("127.0.0.1", _PORT)
        try:
            connection.request("GET", "/")
            connection.getresponse().read()
        except OSError:
            continue
        connection.close()
        return
    raise AssertionError("prometheus-snmp-exporter did not start")


def _ask_all(targets: Sequence[str], per_s: float, for_s: float, done: list[int]) -> None:
    begun_s = time.monotonic()

    def client(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", _PORT, timeout=5)
        nth = first
        while (due_s := nth / per_s) < for_s:
            time.sleep(max(begun_s + due_s - time.monotonic(), 0))
            connection.request("GET", f"/snmp?module=bench&target={targets[nth % len(targets)]}")
            said = connection.getresponse().read()
            if said.count(b"\nobject") == len(POLLED):
                done.append(nth)
            nth += _CLIENTS

    threads = [threading.Thread(target=client, args=(nth,)) for nth in range(_CLIENTS)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
