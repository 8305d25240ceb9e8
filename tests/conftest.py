# SPDX-License-Identifier: GPL-2.0-or-later
"""What tests ask for: the shared recordings, a real Postgres, the lab. Nothing is skipped:
a test whose neighbour is missing is left out with a line saying so, and in CI that is a failure."""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import TEMPLATE, Cluster, server_programs
from tests.support.snmp_agents import SNMPD

_ROOT = Path(__file__).resolve().parent.parent
_LEFT_OUT = pytest.StashKey[dict[str, int]]()
_numbers = itertools.count(1)


def _shared_data() -> Path:
    return Path(os.environ.get("SHARED_DATA") or _ROOT.parent / "shared").resolve()


def _missing() -> dict[str, str]:
    """The markers whose neighbour is not there, with what would bring it."""
    missing = {}
    if not _shared_data().is_dir():
        missing["shared_data"] = f"no recordings at {_shared_data()}; set SHARED_DATA"
    if server_programs() is None:
        missing["postgres"] = "no PostgreSQL server programs; install postgresql"
    if SNMPD is None:
        missing["snmpd"] = "no SNMP agent; install snmpd"
    if not any(Path("/dev").glob("nvidia[0-9]*")):
        missing["gpu"] = "no NVIDIA GPU here; run them on a node that has one"
    if os.environ.get("POWER_BROKER_LAB") != "1":
        missing["lab"] = "not in the lab; run tests/lab/lab up, then make test"
    return missing


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "postgres: starts a private PostgreSQL server")
    config.addinivalue_line("markers", "gpu: reads the GPUs of this machine through NVML")
    config.addinivalue_line("markers", "snmpd: starts Debian's SNMP agent")
    config.stash[_LEFT_OUT] = {}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    missing = _missing()
    if os.environ.get("CI"):
        # Only the lab's tests belong elsewhere: they run inside it, in their own step.
        for marker in ("shared_data", "postgres", "snmpd"):
            if marker in missing and any(item.get_closest_marker(marker) for item in items):
                raise pytest.UsageError(f"CI runs every test: {missing[marker]}")
    left_out = config.stash[_LEFT_OUT]
    kept, deselected = [], []
    for item in items:
        lacking = next((m for m in missing if item.get_closest_marker(m)), None)
        if lacking is None:
            kept.append(item)
            continue
        left_out[lacking] = left_out.get(lacking, 0) + 1
        deselected.append(item)
    if deselected:
        config.hook.pytest_deselected(items=deselected)
        items[:] = kept


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    missing = _missing()
    for marker, count in config.stash[_LEFT_OUT].items():
        terminalreporter.write_line(f"left out: {count} tests marked {marker}: {missing[marker]}")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of shared recordings; the test is marked `shared_data`."""
    return _shared_data()


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Cluster]:
    """A running server with a migrated template; the test is marked `postgres`."""
    import migrations

    cluster = Cluster()
    try:
        cluster.start()
        cluster.execute(f"CREATE DATABASE {TEMPLATE}")
        migrations.upgrade(cluster.url(TEMPLATE))
        yield cluster
    finally:
        cluster.destroy()


@pytest.fixture
def database(postgres_cluster: Cluster) -> str:
    """The name of a fresh, migrated database."""
    name = f"test_{next(_numbers)}"
    postgres_cluster.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    return name


@pytest.fixture
def database_url(postgres_cluster: Cluster, database: str) -> str:
    """SQLAlchemy's URL of a fresh, migrated database; the test is marked `postgres`."""
    return postgres_cluster.url(database)


@pytest.fixture
def database_dsn(postgres_cluster: Cluster, database: str) -> str:
    """libpq's connection string of the same."""
    return postgres_cluster.dsn(database)
