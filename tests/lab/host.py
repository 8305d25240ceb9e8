# SPDX-License-Identifier: GPL-2.0-or-later
"""What the lab needs of the machine it runs on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

TOOLS = {"mmdebstrap": "mmdebstrap", "systemd-nspawn": "systemd-container"}
SOURCES = Path("/etc/apt")
SNAPSHOT = re.compile(r"/archive/debian/\d{8}T\d{6}Z$")


class LabError(Exception):
    """One line for the user: what is missing, or what went wrong and where to look."""


def require_this_machine() -> None:
    """Raise LabError where no lab can be had; install the two tools where one can."""
    if os.geteuid() != 0:
        raise LabError("the lab needs root (it starts a container); run it with sudo")
    if not shutil.which("apt-get"):
        raise LabError("the lab needs Debian: apt-get is missing on this machine")
    missing = [package for tool, package in TOOLS.items() if not shutil.which(tool)]
    if missing:
        install(missing)


def install(packages: list[str]) -> None:
    quiet = {"check": True, "stdout": subprocess.DEVNULL}
    env = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    try:
        subprocess.run(["apt-get", "-qq", "update"], env=env, **quiet)
        subprocess.run(
            ["apt-get", "-qq", "install", "-y", "--no-install-recommends", *packages],
            env=env,
            **quiet,
        )
    except subprocess.CalledProcessError as error:
        raise LabError(f"apt-get could not install {' '.join(packages)}") from error


def mirror_for(suite: str) -> str:
    """The Debian mirror of this machine's own apt sources that has the suite."""
    candidates = list(dict.fromkeys(_plain_first(_debian_uris())))
    for uri in candidates:
        if _answers(f"{uri}/dists/{suite}/InRelease"):
            return uri
    tried = ", ".join(candidates) or "no Debian mirror in /etc/apt"
    raise LabError(f"the lab needs Debian '{suite}' from this machine's apt mirror; tried {tried}")


def apt_proxy() -> str:
    """The machine's proxy for apt, or nothing: mmdebstrap does not read the machine's settings."""
    shell = _output("apt-config", "shell", "P", "Acquire::http::Proxy")
    return shell.strip().removeprefix("P=").strip("'")


def pip_settings() -> dict[str, str]:
    """How this machine reaches a package index, less what points at its own disk."""
    names = ("INDEX_URL", "EXTRA_INDEX_URL", "TRUSTED_HOST", "DEFAULT_TIMEOUT", "PROXY", "RETRIES")
    found = {f"PIP_{name}": value for name, value in _pip_config().items() if name in names}
    for name in ("http_proxy", "https_proxy", "no_proxy", *(f"PIP_{name}" for name in names)):
        if os.environ.get(name):
            found[name] = os.environ[name]
    return {name: value for name, value in found.items() if "file:" not in value}


def ca_bundle() -> Path:
    """The certificates this machine trusts for a package index."""
    named = os.environ.get("PIP_CERT") or os.environ.get("SSL_CERT_FILE")
    return Path(named or "/etc/ssl/certs/ca-certificates.crt")


def _pip_config() -> dict[str, str]:
    found = {}
    for line in _output("python3", "-m", "pip", "config", "list").splitlines():
        key, _, value = line.partition("=")
        name = key.rpartition(".")[2].upper().replace("-", "_")
        found[name] = value.strip("'\"")
    return found


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout if done.returncode == 0 else ""


def _answers(url: str) -> bool:
    fetch = ["/usr/lib/apt/apt-helper", "download-file", url, "/tmp/power-broker-lab-release"]
    done = subprocess.run(fetch, capture_output=True, check=False)
    Path("/tmp/power-broker-lab-release").unlink(missing_ok=True)
    return done.returncode == 0


def _debian_uris() -> Iterator[str]:
    for path in [SOURCES / "sources.list", *sorted(SOURCES.glob("sources.list.d/*"))]:
        if path.is_file():
            for line in path.read_text().splitlines():
                yield from _uris_of(line)


def _uris_of(line: str) -> Iterator[str]:
    """The mirrors a line of either source format names."""
    if not re.match(r"(deb |URIs:)", line):
        return
    for word in line.split():
        if word.startswith("mirror+file:"):
            path = Path("/" + word.removeprefix("mirror+file:").lstrip("/"))
            yield from (uri.rstrip("/") for uri in path.read_text().split() if "://" in uri)
        elif re.match(r"https?://\S+/debian(/|$)|https?://\S+/archive/debian/", word):
            yield word.rstrip("/")


def _plain_first(uris: Iterator[str]) -> Iterator[str]:
    """A snapshot of the stable release may be older than the suite: its host's archive first."""
    for uri in uris:
        yield SNAPSHOT.sub("/debian", uri)
        yield uri
