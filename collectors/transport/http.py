# SPDX-License-Identifier: GPL-2.0-or-later
"""JSON over HTTP from one device that is not trusted to behave: bounded in time, size and place."""

import asyncio
import json
import ssl
import time
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from collectors.transport import NoAnswer

LARGEST_BODY = 4 * 2**20  #: bytes; the largest resource of a real PDU has some 100 KB
LONGEST_WAIT_S = 300.0  #: a device that asks to be left alone for longer is asked anyway
_MOST_REDIRECTS = 3
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_BUSY = frozenset({429, 503})
_SESSIONS = "/redfish/v1/SessionService/Sessions"


@dataclass(frozen=True, slots=True)
class HttpTarget:
    host: str
    port: int
    user: str
    password: str = field(repr=False)
    timeout_s: float
    session: bool = False
    tls: bool = True
    verify: bool = True
    ca_file: Path | None = None

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"


class HttpTransport:
    """One device, one connection that is kept."""

    def __init__(self, target: HttpTarget) -> None:
        self._target = target
        self._client: httpx.AsyncClient | None = None
        self._token = ""
        self._session_path = ""
        self._not_before_s = 0.0

    @property
    def timeout_s(self) -> float:
        return self._target.timeout_s

    async def get(self, path: str) -> dict[str, Any]:
        """One resource. Raises NoAnswer, also for an answer that no sane device gives."""
        wait_s = self._not_before_s - time.monotonic()
        if wait_s > 0:
            raise NoAnswer(f"is busy and asked to be left alone for {wait_s:.0f} s more")
        timeout_s = self._target.timeout_s
        try:
            # httpx's own timeouts begin anew with every byte: ours bounds a trickle too.
            async with asyncio.timeout(timeout_s):
                return _object(await self._body(path), path)
        except TimeoutError as why:
            await self._drop()
            raise NoAnswer(f"timed out after {timeout_s:g} s") from why
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ssl.SSLError) as why:
            await self._drop()
            raise NoAnswer(f"{_words(type(why).__name__)}: {why}".rstrip(": ")) from why

    async def aclose(self) -> None:
        """Log out, where we logged in: a BMC has only a handful of sessions."""
        try:
            if self._session_path and self._client is not None:
                async with asyncio.timeout(self._target.timeout_s):
                    await self._client.delete(self._session_path, headers=self._headers())
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError):
            pass  # it forgets the session by itself after some minutes
        self._token = self._session_path = ""
        await self._drop()

    async def _body(self, path: str) -> bytes:
        status, headers, body = await self._fetch(path)
        if status == 401 and self._target.session:
            self._token = ""  # the session ran out, or the device restarted
            status, headers, body = await self._fetch(path)
        for _ in range(_MOST_REDIRECTS):
            if status not in _REDIRECTS:
                break
            status, headers, body = await self._fetch(self._on_this_device(headers))
        self._refuse(status, headers)
        return body

    async def _fetch(self, path: str) -> tuple[int, httpx.Headers, bytes]:
        if self._target.session and not self._token:
            await self._log_in()
        async with self._opened().stream("GET", path, headers=self._headers()) as response:
            return response.status_code, response.headers, await _read(response)

    async def _log_in(self) -> None:
        who = {"UserName": self._target.user, "Password": self._target.password}
        async with self._opened().stream("POST", _SESSIONS, json=who) as response:
            await _read(response)
            self._refuse(response.status_code, response.headers)
            self._token = response.headers.get("x-auth-token", "")
            self._session_path = httpx.URL(response.headers.get("location", "")).path
        if not self._token:
            raise NoAnswer("gave no token at login; set session = false in secrets.toml")

    def _headers(self) -> dict[str, str]:
        return {"x-auth-token": self._token} if self._token else {}

    def _on_this_device(self, headers: httpx.Headers) -> str:
        here = httpx.URL(self._target.url)
        there = here.join(headers.get("location", ""))
        if (there.scheme, there.host, there.port) != (here.scheme, here.host, here.port):
            # The login must not follow to whoever is named there.
            raise NoAnswer(f"redirects to {there.scheme}://{there.host}, which is another place")
        return there.raw_path.decode()

    def _refuse(self, status: int, headers: httpx.Headers) -> None:
        if status in _BUSY:
            wait_s = _retry_after_s(headers.get("retry-after", ""))
            self._not_before_s = time.monotonic() + wait_s
            raise NoAnswer(f"is busy (HTTP {status}), asked again in {wait_s:.0f} s")
        if status in (401, 403):
            raise NoAnswer(f"refuses the login (HTTP {status}); see secrets.toml")
        if status in _REDIRECTS:
            raise NoAnswer("redirects in circles")
        if status not in (200, 201):
            raise NoAnswer(f"answered HTTP {status}")

    def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            target = self._target
            self._client = httpx.AsyncClient(
                base_url=target.url,
                auth=None if target.session else (target.user, target.password),
                # A compressed body could be small on the wire and endless in memory.
                headers={"accept": "application/json", "accept-encoding": "identity"},
                verify=_tls(target.verify, target.ca_file) if target.tls else False,
                timeout=target.timeout_s,
                limits=httpx.Limits(max_connections=1),
                follow_redirects=False,
                trust_env=False,  # no proxy stands between a collector and its devices
            )
        return self._client

    async def _drop(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()


@cache
def _tls(verify: bool, ca_file: Path | None) -> ssl.SSLContext:
    """Shared by all devices: a context costs 20 ms and a megabyte."""
    context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


async def _read(response: httpx.Response) -> bytes:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise NoAnswer("answered compressed, which was not asked")
    parts, size = [], 0
    async for part in response.aiter_raw():
        size += len(part)
        if size > LARGEST_BODY:
            raise NoAnswer(f"answered more than {LARGEST_BODY // 2**20} MB")
        parts.append(part)
    return b"".join(parts)


def _object(body: bytes, path: str) -> dict[str, Any]:
    try:
        found = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError) as why:
        raise NoAnswer(f"answered {path} with {len(body)} bytes that are no JSON") from why
    if not isinstance(found, dict):
        raise NoAnswer(f"answered {path} with a JSON {type(found).__name__}, not an object")
    return found


def _no_number(word: str) -> None:
    """NaN and Infinity: Python reads them, JSON does not have them."""


def _retry_after_s(text: str) -> float:
    try:
        wait_s = float(text)
    except ValueError:
        try:
            wait_s = parsedate_to_datetime(text).timestamp() - time.time()
        except (ValueError, TypeError):
            return 0.0
    return min(max(wait_s, 0.0), LONGEST_WAIT_S) if wait_s == wait_s else 0.0


def _words(name: str) -> str:
    """ConnectError -> connect error"""
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()
