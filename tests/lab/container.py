# SPDX-License-Identifier: GPL-2.0-or-later
"""A booted lab: start it, run commands in it, drop it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from host import LabError

HERE = Path(__file__).resolve().parent
STATE = Path("/run/power-broker-lab")
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/opt/power-broker/bin:/usr/sbin:/usr/bin:/sbin:/bin"
NAMESPACES = ("-m", "-p", "-u", "-i", "-n", "-C", "-r", "-w")
BOOT_PATIENCE_S = 60


@dataclass(frozen=True, slots=True)
class Container:
    name: str

    @property
    def folder(self) -> Path:
        return STATE / self.name

    def nspawn_pid(self) -> int | None:
        """The container's systemd-nspawn, or None; a reused process id is not mistaken for it."""
        with contextlib.suppress(OSError, ValueError):
            pid = int((self.folder / "pid").read_text())
            words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
            if f"--machine={self.name}" in words or self.name in words:
                return pid
        return None

    def leader_pid(self) -> int | None:
        """The container's process 1, by its number here."""
        pid = self.nspawn_pid()
        if pid is None:
            return None
        with contextlib.suppress(OSError):
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                status = Path(f"/proc/{child}/status").read_text()
                if any(
                    line.startswith("NSpid:") and line.split()[2:] == ["1"]
                    for line in status.splitlines()
                ):
                    return int(child)
        return None

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """One `up` of a name at a time: the second would drop what the first is booting."""
        STATE.mkdir(parents=True, exist_ok=True)
        with (STATE / f"{self.name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def start(self, rootfs: Path, binds: list[str]) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        private = ["unshare", "--mount", "--propagation", "private"]
        command = [*private, str(HERE / "nspawn.sh"), self.name, str(rootfs), *binds]
        with (self.folder / "console.log").open("w") as console:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        (self.folder / "pid").write_text(str(process.pid))
        self._wait_for_systemd(process)

    def _wait_for_systemd(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + BOOT_PATIENCE_S
        ready = ["systemctl", "is-active", "--quiet", "multi-user.target"]
        while time.monotonic() < deadline:
            if process.poll() is not None:
                break
            if self.leader_pid() and self.run(ready).returncode == 0:
                return
            time.sleep(0.1)
        words = (self.folder / "console.log").read_text().strip().splitlines()
        raise LabError(f"the container did not boot: {words[-1] if words else 'it said nothing'}")

    def command(self, command: list[str], user: str = "root") -> list[str]:
        """What to run here so that `command` runs in the lab, with this process's streams."""
        leader = self.leader_pid()
        if leader is None:
            raise LabError(f"lab '{self.name}' is not up; start it with: tests/lab/lab up")
        uid, gid, home = self._account(leader, user)
        become = ["setpriv", f"--reuid={uid}", f"--regid={gid}", "--init-groups"]
        # The checkout is read-only in the lab: a user's jobs need a folder they can write to.
        folder = "/src" if uid == 0 else home
        env = {
            "PATH": SEARCH_PATH,
            "HOME": home,
            "USER": user,
            "LOGNAME": user,
            "LANG": "C.UTF-8",
            "PYTHONDONTWRITEBYTECODE": "1",
            "HYPOTHESIS_STORAGE_DIRECTORY": "/tmp/hypothesis",
            "SHARED_DATA": "/shared",
            "POWER_BROKER_LAB": "1",
            **({"SBATCH_OUTPUT": "/var/tmp/slurm-%j.out"} if uid == 0 else {}),
            **{name: os.environ[name] for name in ("CI", "TERM", "COLUMNS") if name in os.environ},
        }
        enter = ["nsenter", f"--target={leader}", *NAMESPACES]
        settings = [f"{name}={value}" for name, value in env.items()]
        return [*enter, *become, "env", "-i", f"--chdir={folder}", *settings, *command]

    def run(self, command: list[str]) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.command(command), stdin=subprocess.DEVNULL, capture_output=True, check=False
        )

    def _account(self, leader: int, user: str) -> tuple[int, int, str]:
        passwd = Path(f"/proc/{leader}/root/etc/passwd").read_text()
        for line in passwd.splitlines():
            name, _, uid, gid, _, home, *_ = line.split(":")
            if name == user:
                return int(uid), int(gid), home
        raise LabError(f"no user '{user}' in the lab; try root, alice or bob")

    def drop(self) -> bool:
        """End the container at once: nothing in it is to be kept. True if there was one."""
        pid = self.nspawn_pid()
        if pid is not None:
            for victim in (self.leader_pid(), pid):
                if victim is not None:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(victim, signal.SIGKILL)
            while Path(f"/proc/{pid}").exists() and not _is_zombie(pid):
                time.sleep(0.05)
            self._drop_cgroup()
        shutil.rmtree(self.folder, ignore_errors=True)
        return pid is not None

    def _drop_cgroup(self) -> None:
        enter = (
            "[ -e /sys/fs/cgroup/cgroup.controllers ] || "
            "{ umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup; }; "
            "cd /sys/fs/cgroup/power-broker-lab && for attempt in $(seq 40); do "
            'find "$0" -depth -type d -exec rmdir {} + 2>/dev/null; '
            '[ -d "$0" ] || exit 0; sleep 0.05; done'  # until the last process is gone
        )
        private = ["unshare", "--mount", "--propagation", "private"]
        subprocess.run([*private, "sh", "-c", enter, self.name], check=False)


def _is_zombie(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return ") Z " in Path(f"/proc/{pid}/stat").read_text()
    return True
