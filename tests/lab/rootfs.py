# SPDX-License-Identifier: GPL-2.0-or-later
"""The lab's root file system: built once, cached outside the checkout, keyed by what made it."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import host
from host import LabError
from requirements import requirements

HERE = Path(__file__).resolve().parent
CHECKOUT = HERE.parent.parent
CACHE = Path("/var/cache/power-broker-lab")
SUITE = "forky"
SLURM_RELEASE = "26.05"
PYSLURM = ("slurm_plugin/build-pyslurm", "slurm_plugin/pyslurm_compat.h")
EXTRAS = ["test"]  # pyslurm has a build of its own


def packages() -> list[str]:
    lines = (HERE / "packages").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def base_key() -> str:
    return "base-" + _digest(SUITE, *packages(), (HERE / "build-base.sh").read_text())


def full_key() -> str:
    sources = [(CHECKOUT / path).read_text() for path in PYSLURM]
    recipe = (HERE / "build-full.sh").read_text()
    return "full-" + _digest(base_key(), *sorted(requirements(EXTRAS)), *sources, recipe)


def ensure(say: Callable[[str], None]) -> Path:
    """The root file system for this checkout, built if need be; a second caller waits."""
    target = CACHE / full_key()
    if target.is_dir():
        return target
    with _only_one_builder():
        base = CACHE / base_key()
        if not base.is_dir():
            _build(base, lambda rootfs: _bootstrap(rootfs, say))
            say("Debian with Slurm and both databases is unpacked")
        if not target.is_dir():
            _build(target, lambda rootfs: _finish(base, rootfs, say))
            say("Python packages and pyslurm are installed")
    return target


def destroy() -> None:
    for path in (CACHE / full_key(), CACHE / base_key()):
        shutil.rmtree(path, ignore_errors=True)


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]


@contextmanager
def _only_one_builder() -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build(target: Path, make: Callable[[Path], None]) -> None:
    """All or nothing: a build that was interrupted leaves no root file system behind."""
    partial = target.with_name(target.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        make(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    partial.rename(target)


def _bootstrap(rootfs: Path, say: Callable[[str], None]) -> None:
    mirror = host.mirror_for(SUITE)
    say(f"building the root file system from {mirror} (once, about 2 minutes)")
    build = [HERE / "build-base.sh", rootfs, mirror, ",".join(packages()), SUITE, host.apt_proxy()]
    _run("Debian", build)
    slurm = _slurm_version(rootfs)
    if not slurm.startswith(SLURM_RELEASE):
        raise LabError(
            f"the lab needs Slurm {SLURM_RELEASE} and {mirror} {SUITE} has {slurm}: "
            "the mirror has moved on, or is too old"
        )


def _slurm_version(rootfs: Path) -> str:
    header = (rootfs / "usr/include/slurm/slurm_version.h").read_text()
    number = int(re.search(r"SLURM_VERSION_NUMBER (0x[0-9a-f]+)", header)[1], 16)
    return f"{number >> 16 & 255}.{number >> 8 & 255:02d}.{number & 255}"


def _finish(base: Path, rootfs: Path, say: Callable[[str], None]) -> None:
    subprocess.run(["cp", "-a", "--reflink=auto", base, rootfs], check=True)
    (rootfs / "build").mkdir()
    for path in PYSLURM:
        shutil.copy(CHECKOUT / path, rootfs / "build")
    shutil.copy("/etc/resolv.conf", rootfs / "etc/resolv.conf")
    if host.ca_bundle().exists():
        shutil.copy(host.ca_bundle(), rootfs / "etc/ssl/certs/ca-certificates.crt")
    say("installing Python packages and building pyslurm")
    _run("the Python packages", [*_chroot(rootfs), "/build-full.sh", *requirements(EXTRAS)])
    for path in ("build", "build-full.sh", "etc/resolv.conf"):
        _remove(rootfs / path)


def _chroot(rootfs: Path) -> list[str]:
    """Run in the root file system with the host's network and mounts of its own."""
    shutil.copy(HERE / "build-full.sh", rootfs / "build-full.sh")
    enter = (
        'mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" && '
        'root=$0 && exec chroot "$root" env -i "$@"'
    )
    env = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "LANG": "C.UTF-8",
        "PIP_ROOT_USER_ACTION": "ignore",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_CERT": "/etc/ssl/certs/ca-certificates.crt",
        **host.pip_settings(),
    }
    settings = [f"{name}={value}" for name, value in env.items()]
    private = ["unshare", "--mount", "--pid", "--fork", "--propagation", "private"]
    return [*private, "sh", "-c", enter, str(rootfs), *settings, "sh"]


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _run(what: str, command: list[object]) -> None:
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        log = CACHE / "build.log"
        log.write_text(done.stdout + done.stderr)
        words = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()[-1]
        raise LabError(f"building {what} failed: {words} (all of it is in {log})")
