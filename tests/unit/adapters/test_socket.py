# SPDX-License-Identifier: GPL-2.0-or-later
"""powermgr's socket: real connections, and clients that mean no good."""

from __future__ import annotations

import json
import os
import pwd
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from broker.adapters.socket_client import BrokerUnreachable, ask
from broker.adapters.socket_server import Limits, SocketServer
from broker.domain.errors import BadRequest, BrokerError, NotAllowed
from broker.services.messages import Answer, Request

QUICK = Limits(request_bytes=1000, read_s=0.3, connections=6, connections_per_user=3)
SHOW = Request(op="show", entity="rack")


def echo(request: Request) -> Answer:
    return Answer(rows=[{"name": request.entity}], message=f"by {request.peer}")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "s"


@contextmanager
def serving(
    path: Path, handle: Callable[[Request], Answer] = echo, limits: Limits = QUICK
) -> Iterator[SocketServer]:
    with SocketServer(path, handle, limits=limits) as server:
        yield server


@contextmanager
def connected(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(5)
        client.connect(str(path))
        yield client


def answer_to(path: Path, sent: bytes, *, half_close: bool = False) -> dict[str, Any]:
    with connected(path) as client:
        with suppress(BrokenPipeError):  # it hung up early; the answer is there all the same
            client.sendall(sent)
        if half_close:
            client.shutdown(socket.SHUT_WR)
        received = b""
        while not received.endswith(b"\n"):
            received += client.recv(65536)
        found: dict[str, Any] = json.loads(received)
        return found


def test_a_request_is_answered_and_the_kernel_says_who_asked(path: Path) -> None:
    seen: list[Request] = []

    def handle(request: Request) -> Answer:
        seen.append(request)
        return Answer(rows=[{"at": datetime(2026, 12, 1, tzinfo=UTC), "draw_w": 7}], exit_code=10)

    with serving(path, handle):
        answer = ask(
            Request(op="show", entity="rack", where={"name": ["r1"]}, values={"nodes": 2}),
            path=path,
        )

    assert answer == Answer(rows=({"at": "2026-12-01T00:00:00+00:00", "draw_w": 7},), exit_code=10)
    (request,) = seen
    assert (request.texts("name"), request.number("nodes")) == (("r1",), 2)
    assert request.peer is not None
    assert (request.peer.uid, request.peer.gid, request.peer.pid, request.peer.user) == (
        os.getuid(), os.getgid(), os.getpid(), pwd.getpwuid(os.getuid()).pw_name,
    )  # fmt: skip


def test_anybody_may_connect_and_nothing_is_left_behind(path: Path) -> None:
    with serving(path):
        assert path.stat().st_mode & 0o777 == 0o666
        assert [each.name for each in path.parent.iterdir()] == ["s"]
    assert list(path.parent.iterdir()) == []


def test_a_socket_that_a_killed_broker_left_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as dead:
        dead.bind(str(path))
        dead.listen()

    with serving(path):
        assert ask(SHOW, path=path).ok


def test_a_second_broker_leaves_the_first_alone(path: Path) -> None:
    with serving(path):
        with pytest.raises(BrokerError, match="another broker serves"):
            SocketServer(path, echo).start()
        assert ask(SHOW, path=path).ok


GARBAGE = {
    "no JSON": b"GET / HTTP/1.1\r\n",
    "binary": bytes(range(256)).replace(b"\n", b"") + b"\n",
    "an empty line": b"\n",
    "a list": b"[1]\n",
    "not a number": b'{"op": "show", "values": {"n": NaN}}\n',
    "deep nesting": b"[" * 900 + b"\n",
    "an unknown op": b'{"op": "drop tables"}\n',
    "no entity of its kind": b'{"op": "show", "entity": 5}\n',
    "where that is no object": b'{"op": "show", "where": 5}\n',
    "a number of ten thousand digits": b'{"op": ' + b"9" * 900 + b"}\n",
    "too long": b"x" * 5000 + b"\n",
    "endless": b"x" * 5000,
}


@pytest.mark.parametrize("sent", GARBAGE.values(), ids=GARBAGE.keys())
def test_garbage_gets_one_line_and_hurts_nobody(path: Path, sent: bytes) -> None:
    with serving(path):
        answer = answer_to(path, sent)
        assert ask(SHOW, path=path).ok

    assert (answer["ok"], answer["exit_code"]) == (False, 2)
    assert len(answer["error"]) < 200
    assert "\n" not in answer["error"]


def test_nesting_deeper_than_python_goes_is_refused() -> None:
    peer_less = Limits()
    assert peer_less.request_bytes > 200_000
    with pytest.raises(BadRequest):
        Answer.from_line(b"[" * 200_000)


def test_half_a_request_is_refused(path: Path) -> None:
    with serving(path):
        answer = answer_to(path, b'{"op": "sh', half_close=True)

    assert answer["error"] == "the request ended after 10 bytes without a newline"


def test_clients_that_hang_are_dropped_and_others_are_served_meanwhile(path: Path) -> None:
    with serving(path), connected(path) as mute, connected(path) as slow:
        slow.sendall(b'{"op"')
        assert ask(SHOW, path=path).ok
        dropped = [json.loads(each.recv(65536))["error"] for each in (mute, slow)]

    assert dropped == ["no whole request within 0.3 s"] * 2


def test_a_trickle_of_bytes_does_not_extend_the_deadline(path: Path) -> None:
    stop = threading.Event()
    with serving(path), connected(path) as client:

        def trickle() -> None:
            while not stop.wait(0.05):
                try:
                    client.send(b" ")
                except OSError:
                    return

        thread = threading.Thread(target=trickle)
        thread.start()
        began = time.monotonic()
        received = client.recv(65536)
        stop.set()
        thread.join()

    assert b"no whole request" in received
    assert time.monotonic() - began < 2


def test_one_user_cannot_take_all_connections(path: Path) -> None:
    with serving(path), connected(path), connected(path), connected(path):
        answer = ask(SHOW, path=path)
        assert answer.error == "the broker is busy: too many powermgr at once"
        deadline = time.monotonic() + 5
        while not ask(SHOW, path=path).ok:  # the hanging ones are dropped after read_s
            assert time.monotonic() < deadline


def test_a_client_that_leaves_without_its_answer_hurts_nobody(path: Path) -> None:
    big = Answer(rows=[{"x": "y" * 1000}] * 2000)
    with serving(path, lambda request: big, Limits()):
        for _ in range(3):
            with connected(path) as client:
                client.sendall(SHOW.to_line())
        assert len(ask(SHOW, path=path).rows) == 2000


def test_errors_on_purpose_keep_their_words_and_code(path: Path) -> None:
    def handle(request: Request) -> Answer:
        raise NotAllowed("only powerbroker and root may do this", hint="sudo powermgr ...")

    with serving(path, handle):
        answer = ask(SHOW, path=path)

    assert answer == Answer.refused(
        "only powerbroker and root may do this", hint="sudo powermgr ...", exit_code=3
    )


def test_a_bug_is_logged_and_the_broker_lives_on(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failures = [ZeroDivisionError("boom")]

    def handle(request: Request) -> Answer:
        if failures:
            raise failures.pop()
        return Answer(message="well")

    with serving(path, handle):
        first, second = ask(SHOW, path=path), ask(SHOW, path=path)

    assert first.exit_code == 1
    assert "boom" not in first.error
    assert "boom" in caplog.text
    assert second.message == "well"


def test_an_answer_that_is_no_json_is_a_bug_of_ours_too(path: Path) -> None:
    with serving(path, lambda request: Answer(rows=[{"draw_w": float("nan")}])):
        assert "bug" in ask(SHOW, path=path).error


def test_nobody_there(path: Path) -> None:
    with pytest.raises(BrokerUnreachable, match=f"does not answer at {path}: No such file"):
        ask(SHOW, path=path)


def test_a_server_that_does_not_answer(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as silent:
        silent.bind(str(path))
        silent.listen()
        with pytest.raises(BrokerUnreachable, match=r"did not answer within 0.1 s"):
            ask(SHOW, path=path, timeout_s=0.1)


WRONG_VALUES = {
    "a number that is text": ("number", "12"),
    "a negative number": ("number", -1),
    "a truth as a number": ("number", True),
    "a fraction": ("number", 1.5),
    "a huge number": ("number", 10**30),
    "a time without zone": ("time", "2026-12-01T18:00"),
    "a time that is a number": ("time", 5),
    "words that are objects": ("texts", [{}]),
    "a word too long": ("text", "x" * 5000),
    "two words for one": ("text", ["a", "b"]),
}


@pytest.mark.parametrize("case", WRONG_VALUES.values(), ids=WRONG_VALUES.keys())
def test_values_of_the_wrong_kind_are_refused(case: tuple[str, Any]) -> None:
    accessor, value = case
    with pytest.raises(BadRequest, match=r"^key="):
        getattr(Request("add", "reservation", values={"key": value}), accessor)("key")


def test_a_missing_value_is_named() -> None:
    with pytest.raises(BadRequest, match="add reservation: rack= is missing"):
        Request("add", "reservation").text("rack")
