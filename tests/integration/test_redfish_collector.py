# SPDX-License-Identifier: GPL-2.0-or-later
"""The collector as a process on Redfish devices: every answer is a row, a busy device is marked."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from tests.support.http_device import Answer, Asked, HttpDevice, http_device

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 30.0
LOGIN = "redfish-s3cret"
TREE = {
    "/redfish/v1/": {"PowerEquipment": {"@odata.id": "/e"}, "Chassis": {"@odata.id": "/c"}},
    "/e": {"RackPDUs": {"@odata.id": "/p"}},
    "/p": {"Members": [{"@odata.id": "/p/1"}]},
    "/p/1": {"Id": "1", "Model": "Meter", "Metrics": {"@odata.id": "/p/1/m"}},
    "/p/1/m": {"PowerWatts": {"Reading": 6438, "PowerFactor": 0.93}, "EnergykWh": {"Reading": 9}},
    "/c": {"Members": [{"@odata.id": "/c/1"}]},
    "/c/1": {"Id": "1", "Power": {"@odata.id": "/c/1/p"}},
    "/c/1/p": {"PowerControl": [{"PowerConsumedWatts": 4321}]},
}

pytestmark = pytest.mark.postgres


class Device:
    """A PDU and a server behind one address, in a thread beside the test."""

    def __init__(self) -> None:
        self.answered = 0
        self.busy = False
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._serve()])
        self._ready, self._ended = threading.Event(), asyncio.Event()

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def _answer(self, asked: Asked) -> Answer:
        if self.busy:
            return Answer(503, {"Retry-After": "0"})
        if asked.path not in TREE:
            return Answer(404)
        self.answered += asked.path == "/p/1/m"
        return Answer(body=json.dumps(TREE[asked.path]).encode())

    async def _serve(self) -> None:
        device: HttpDevice
        async with http_device() as device:
            device.answer, self.port = self._answer, device.port
            self._ready.set()
            await self._ended.wait()


@pytest.fixture
def device() -> Iterator[Device]:
    device = Device()
    device.start()
    yield device
    device.stop()


def configure(folder: Path, dsn: str, port: int) -> None:
    (folder / "inventory.toml").write_text(
        "[node_types.h]\nmax_w = 10200\n"
        "[racks.r1.feeds.A]\nbreaker_rating_a = 80\nphase_voltage_v = 230\n"
        f'pdu = "redfish://dc@127.0.0.1:{port}"\n'
        f'[nodes.n01]\ntype = "h"\nbmc = "redfish://dc@127.0.0.1:{port}"\n'
    )
    (folder / "collectors.toml").write_text(
        "[polling]\ninterval_s = 0.5\ntimeout_s = 0.4\nspread_s = 0.1\nstale_after_polls = 2\n"
        f'[database]\ndsn = "{dsn}"\n[spool]\ndir = "{folder}/spool"\n[metrics]\nlisten = ""\n'
    )
    (folder / "secrets.toml").write_text(
        f'[redfish.dc]\nuser = "poller"\npassword = "{LOGIN}"\ntls = false\n'
    )
    (folder / "secrets.toml").chmod(0o600)


def wait_for(what: str, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(0.05)


def test_redfish_devices_are_stored_row_by_row_and_marked_while_busy(
    tmp_path: Path, database_dsn: str, device: Device
) -> None:
    configure(tmp_path, database_dsn, device.port)

    def rows(statement: str) -> list[tuple[object, ...]]:
        with psycopg.connect(database_dsn) as connection:
            return connection.execute(statement).fetchall()  # type: ignore[call-overload,no-any-return]

    def silent() -> bool:
        return len(rows("SELECT device FROM latest WHERE note LIKE '%busy (HTTP 503)%'")) == 2

    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "collectors.main", "--config", str(tmp_path)],
            cwd=ROOT,
            stderr=log,
        )
    try:
        wait_for("ten rows", lambda: rows("SELECT count(*) FROM samples")[0][0] >= 10)  # type: ignore[operator]
        device.busy = True
        wait_for("both are marked", silent)
        device.busy = False
        wait_for("both are back", lambda: not silent())
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0

    assert rows("SELECT DISTINCT device, active_power_w, quality FROM samples ORDER BY device") == [
        ("n01.bmc", 4321, "good"),
        ("r1.A", 6438, "good"),
    ]
    [[stored]] = rows("SELECT count(*) FROM samples WHERE device = 'r1.A'")
    assert stored == device.answered
    said = (tmp_path / "log").read_text()
    assert "r1.A, n01.bmc: Redfish without TLS" in said
    assert LOGIN not in said
    assert not [row for row in rows("SELECT latest::text FROM latest") if LOGIN in str(row)]
