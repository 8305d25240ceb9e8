# SPDX-License-Identifier: GPL-2.0-or-later
"""SNMP agents that others wrote, started on loopback: Debian's snmpd and snmpsim."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from collectors.transport import AuthProtocol, PrivProtocol, SnmpUser

SNMPD = shutil.which("snmpd", path=os.environ.get("PATH", "") + ":/usr/sbin")
AUTH_PASSWORD, PRIV_PASSWORD = "auth-of-the-test", "priv-of-the-test"
_CONF = """\
rocommunity public
sysServices 72
sysObjectID 1.3.6.1.4.1.318.1.3.4.6
createUser sha SHA {auth} AES {priv}
createUser sha256 SHA-256 {auth} AES {priv}
createUser sha512 SHA-512 {auth} AES {priv}
createUser md5 MD5 {auth} DES {priv}
rouser sha priv
rouser sha256 priv
rouser sha512 priv
rouser md5 priv
"""


def user(name: str, auth: AuthProtocol = "SHA", priv: PrivProtocol = "AES128") -> SnmpUser:
    """A user that both agents know."""
    return SnmpUser(name, AUTH_PASSWORD, PRIV_PASSWORD, auth, priv)


class Agent:
    """One agent's process, which can be restarted where it was."""

    def __init__(self, command: list[str], port: int, environment: dict[str, str]) -> None:
        self.port = port
        self._command = command
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command,
            env=os.environ | self._environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        _wait_until_bound(self.port, self._process)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.communicate(timeout=10)
            self._process = None


@contextmanager
def snmpd(folder: Path, more: str = "") -> Iterator[Agent]:
    """Debian's agent, with users of every protocol; `more` is added to its configuration."""
    assert SNMPD
    text = _CONF.format(auth=AUTH_PASSWORD, priv=PRIV_PASSWORD)
    (folder / "snmpd.conf").write_text(text + more)
    port = _free_port()
    command = [SNMPD, "-f", "-Lf", str(folder / "log"), "-C", "-c", str(folder / "snmpd.conf")]
    # No MIBs to read, and its boot counter in our folder.
    environment = {"MIBS": "", "SNMP_PERSISTENT_DIR": str(folder / "state")}
    yield from _run(Agent([*command, f"udp:127.0.0.1:{port}"], port, environment))


@contextmanager
def snmpsim(folder: Path, records: dict[str, str]) -> Iterator[Agent]:
    """snmpsim with these records (community or `self` for v3 -> text of a .snmprec file)."""
    data = folder / "data"
    data.mkdir()
    for name, text in records.items():
        (data / f"{name}.snmprec").write_text(text)
    port = _free_port()
    command = [
        str(Path(sys.executable).with_name("snmpsim-command-responder")),
        f"--data-dir={data}",
        f"--cache-dir={folder / 'cache'}",
        f"--agent-udpv4-endpoint=127.0.0.1:{port}",
        "--log-level=error",
    ]
    if os.getuid() == 0:
        command += ["--process-user=root", "--process-group=root"]
    for name, auth in (("sha", "SHA"), ("sha256", "SHA256")):
        command += [
            f"--v3-user={name}",
            f"--v3-auth-proto={auth}",
            f"--v3-auth-key={AUTH_PASSWORD}",
            "--v3-priv-proto=AES",
            f"--v3-priv-key={PRIV_PASSWORD}",
        ]
    yield from _run(Agent(command, port, {}))


def _run(agent: Agent) -> Iterator[Agent]:
    agent.start()
    try:
        yield agent
    finally:
        agent.stop()


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as endpoint:
        endpoint.bind(("127.0.0.1", 0))
        return int(endpoint.getsockname()[1])


def _wait_until_bound(port: int, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    wanted = f"0100007F:{port:04X}"
    while time.monotonic() < deadline:
        if process.poll() is not None:
            assert process.stderr is not None
            raise RuntimeError(f"the agent ended: {process.stderr.read().decode()[-400:]}")
        if wanted in Path("/proc/net/udp").read_text():
            return
        time.sleep(0.05)
    raise RuntimeError(f"no agent on port {port} within 20 s")
