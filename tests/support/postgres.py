# SPDX-License-Identifier: GPL-2.0-or-later
"""A private PostgreSQL on a unix socket in a temporary folder, for tests that need the real one."""

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psycopg

TEMPLATE = "migrated"
_START_WITHIN_S = 30
# Durability is what the tests of the spool are about; that of the test's own cluster is not.
_FAST = ("-c", "fsync=off", "-c", "full_page_writes=off", "-c", "listen_addresses=")


def server_programs() -> Path | None:
    """Where initdb and postgres are, or None where PostgreSQL's server is not installed."""
    candidates = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if pg_config := shutil.which("pg_config"):
        asked = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, check=False)
        candidates.insert(0, Path(asked.stdout.strip()))
    for folder in candidates:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    return None


class Cluster:
    """One server. Stopped and started at will; its data lives as long as the object."""

    def __init__(self, options: Sequence[str] = _FAST) -> None:
        self._options = options
        programs = server_programs()
        assert programs is not None, "PostgreSQL's server programs (initdb, postgres) not found"
        self._programs = programs
        # Short, because a unix socket's path has room for some hundred characters only.
        self.folder = Path(tempfile.mkdtemp(prefix="pg", dir="/tmp"))
        self._user = _unprivileged()
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self.folder.chmod(0o755)
        self._server: subprocess.Popen[bytes] | None = None
        command = ["initdb", "-D", "data", "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"]
        subprocess.run(
            self._as_user([*command, "--locale=C"]),
            cwd=self.folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )

    def dsn(self, database: str = "postgres", *, user: str = "postgres") -> str:
        """libpq's connection string."""
        return f"host={self.folder} user={user} dbname={database}"

    def url(self, database: str, *, user: str = "postgres") -> str:
        """SQLAlchemy's URL."""
        return f"postgresql+psycopg://{user}@/{database}?host={self.folder}"

    @property
    def pid(self) -> int:
        """Of the postmaster, while the server runs."""
        return int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])

    def start(self) -> None:
        log = (self.folder / "log").open("ab")
        self._server = subprocess.Popen(
            self._as_user(["postgres", "-D", "data", "-k", str(self.folder), *self._options]),
            cwd=self.folder,
            stdout=log,
            stderr=log,
        )
        log.close()
        deadline = time.monotonic() + _START_WITHIN_S
        while not self._answers():
            assert time.monotonic() < deadline, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.05)

    def stop(self) -> None:
        """Immediately, as in a crash: connections are cut, nothing is waited for."""
        if self._server is None:
            return
        os.kill(self.pid, signal.SIGQUIT)
        self._server.wait(_START_WITHIN_S)
        self._server = None

    def destroy(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def execute(self, statement: str, database: str = "postgres") -> None:
        with psycopg.connect(self.dsn(database), autocommit=True) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def _answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def _as_user(self, command: Sequence[str]) -> list[str]:
        whole = [str(self._programs / command[0]), *command[1:]]
        return whole if self._user is None else ["runuser", "-u", self._user, "--", *whole]


def _unprivileged() -> str | None:
    """initdb and postgres refuse to run as root."""
    if os.getuid() != 0:
        return None
    with Path("/etc/passwd").open() as file:
        users = {line.split(":")[0] for line in file}
    return "postgres" if "postgres" in users else "nobody"
