# SPDX-License-Identifier: GPL-2.0-or-later
"""The control socket: one JSON line asked, one answered."""

import asyncio
import json
import socket
from collections.abc import Sequence
from pathlib import Path

from tests.fleet.commands import BadCommand, execute
from tests.fleet.plant import Plant

_TIMEOUT_S = 10
OK, NOT_RUNNING, BAD = 0, 1, 2


async def listen(path: Path, plant: Plant) -> asyncio.Server:
    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await asyncio.wait_for(reader.readline(), _TIMEOUT_S)
            writer.write(json.dumps(_reply(line, plant)).encode() + b"\n")
            await writer.drain()
        except (TimeoutError, ConnectionError):
            pass
        finally:
            writer.close()

    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return await asyncio.start_unix_server(serve_one, path)


def _reply(line: bytes, plant: Plant) -> dict[str, object]:
    try:
        words = [str(word) for word in json.loads(line)["words"]]
        return {"code": OK, "text": execute(words, plant)}
    except BadCommand as error:
        return {"code": BAD, "text": str(error)}
    except (KeyError, TypeError, ValueError) as error:
        return {"code": BAD, "text": f"no request: {error}"}


def ask(path: Path, words: Sequence[str]) -> tuple[int, str]:
    """(exit status, text) from the running fleet."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(_TIMEOUT_S)
        try:
            connection.connect(str(path))
            connection.sendall(json.dumps({"words": list(words)}).encode() + b"\n")
            answer = connection.makefile("rb").readline()
        except OSError as error:
            return NOT_RUNNING, f"no fleet answers at {path} ({error.strerror or error})"
    if not answer:
        return NOT_RUNNING, f"the fleet at {path} hung up without an answer"
    reply = json.loads(answer)
    return int(reply["code"]), str(reply["text"])
