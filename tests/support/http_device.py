# SPDX-License-Identifier: GPL-2.0-or-later
"""A Redfish device for tests: serves a recorded tree or answers that a test gives, on loopback."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote


@dataclass(frozen=True, slots=True)
class Asked:
    method: str
    path: str
    query: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"{}"


Writes = Callable[[asyncio.StreamWriter], Any]
Answers = Callable[[Asked], Answer | Writes]


class HttpDevice:
    """`answer` decides; a coroutine function as answer writes to the connection itself."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answer: Answers = lambda asked: Answer(404)
        self.port = 0

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (asked := await _read(reader)) is not None:
                self.asked.append(asked)
                answer = self.answer(asked)
                if not isinstance(answer, Answer):
                    await answer(writer)
                    break
                writer.write(_encoded(answer))
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def http_device(tls: ssl.SSLContext | None = None) -> AsyncIterator[HttpDevice]:
    device = HttpDevice()
    server = await asyncio.start_server(device._serve, "127.0.0.1", 0, ssl=tls)
    device.port = server.sockets[0].getsockname()[1]
    try:
        yield device
    finally:
        server.close()


def tree(folder: Path, *, expands: bool) -> Answers:
    """A recorded service: the folder is /redfish/v1."""

    def answer(asked: Asked) -> Answer | Writes:
        inside = asked.path.removeprefix("/redfish/v1").strip("/")
        file = folder / inside / "index.json"
        if not asked.path.startswith("/redfish/v1") or not file.is_file():
            return Answer(404)
        found = json.loads(file.read_text())
        if expands and "expand" in asked.query:
            found["Members"] = [_member(folder, each) for each in found.get("Members", [])]
        return Answer(body=json.dumps(found).encode())

    return answer


def _member(folder: Path, link: dict[str, str]) -> Any:
    inside = link["@odata.id"].removeprefix("/redfish/v1").strip("/")
    return json.loads((folder / inside / "index.json").read_text())


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    line = await reader.readline()
    if not line:
        return None
    method, target, _ = line.decode().split(" ", 2)
    headers: dict[str, str] = {}
    while (line := await reader.readline()) not in (b"\r\n", b""):
        name, _, value = line.decode().partition(":")
        headers[name.strip().lower()] = value.strip()
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    path, _, query = target.partition("?")
    return Asked(method, unquote(path), unquote(query), headers, body)


def _encoded(answer: Answer) -> bytes:
    headers = {"Content-Length": str(len(answer.body)), **answer.headers}
    lines = [f"HTTP/1.1 {answer.status} -", *(f"{name}: {text}" for name, text in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode() + answer.body
