# SPDX-License-Identifier: GPL-2.0-or-later
"""A process that polls its share of the BMCs through pyghmi, with persistent sessions.

pyghmi keeps module-wide state and its threads contend badly, so it lives in a process of its own
and in one thread: logins and requests are started and their answers collected by callback, so a
dead BMC holds nobody up. Told what to do by one JSON line on stdin (no secret in argv), says what
it heard in JSON lines on stdout, ends when stdin does.
"""

import json
import os
import select
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyghmi.exceptions import PyghmiException
from pyghmi.ipmi.private.session import Session

from collectors.transport.ipmi_login import never_wait

_NETFN_GROUP, _GET_POWER_READING = 0x2C, 0x02
_SYSTEM_POWER = (0xDC, 1, 0, 0)
# pyghmi may miss the wake-up of a packet that arrives while it prepares to wait.
_LONGEST_WAIT_S = 0.05
_ABANDON_AFTER_MISSES = 3


@dataclass(slots=True)
class Bmc:
    """One BMC: where it is, its turn, its session."""

    name: str
    host: str
    port: int
    due_s: float
    # As bytes: with str, pyghmi 1.6 files a session under one key and forgets it under another,
    # and hands out the broken one for ever instead of logging in again.
    user: bytes = field(repr=False)
    password: bytes = field(repr=False)
    session: Any = None
    asked: bool = False
    misses: int = 0
    trouble: str = "no answer to the login yet"
    garbage: str = ""  #: what pyghmi made of its last packets


@dataclass(slots=True)
class Worker:
    """Polls on a grid of the monotonic clock until stdin ends."""

    interval_s: float
    timeout_s: float
    attempts: int
    bmcs: list[Bmc]
    stopping: bool = field(default=False)

    def run(self) -> None:
        while not self.stopping:
            self._wait(min(each.due_s for each in self.bmcs) - time.monotonic())
            for bmc in self._due():
                # Asked before every request: an answer nobody would read must not be caused.
                if self.stopping or _parent_gone():
                    self.stopping = True
                    break
                if not _parent_stopped():
                    self._take_turn(bmc)
        self._wait_for_the_last_answers()

    def _due(self) -> list[Bmc]:
        now = time.monotonic()
        due = [each for each in self.bmcs if each.due_s <= now]
        for each in due:
            each.due_s += ((now - each.due_s) // self.interval_s + 1) * self.interval_s
        return due

    def _take_turn(self, bmc: Bmc) -> None:
        # pyghmi calls a session logged in before the BMC has granted the privilege level.
        ready = bmc.session is not None and bmc.session.logged and not bmc.session.logging
        if bmc.asked or not ready:
            self._missed(bmc)
        if bmc.session is None or bmc.session.broken:
            self._log_in(bmc)
        # pyghmi would wait, and all others with it, while its own keepalive is under way.
        elif ready and not bmc.asked and not bmc.session._isincommand():
            self._ask(bmc)

    def _missed(self, bmc: Bmc) -> None:
        if bmc.asked:
            bmc.trouble = f"timed out after {self.interval_s:g} s"
        if bmc.misses or bmc.asked or bmc.session is not None:
            _say({"device": bmc.name, "missed": bmc.trouble + bmc.garbage})
        bmc.misses += 1
        if bmc.asked and bmc.misses >= _ABANDON_AFTER_MISSES:
            # pyghmi goes on retrying for 10 s and more; a BMC that restarted wants a new login.
            self._drop_session(bmc)

    def _drop_session(self, bmc: Bmc) -> None:
        session, bmc.session, bmc.asked = bmc.session, None, False
        session.incommand = False
        session._mark_broken()

    def _log_in(self, bmc: Bmc) -> None:
        def outcome(response: Mapping[str, Any]) -> None:
            if "error" in response:
                bmc.session = None
                bmc.trouble = f"login failed: {response['error']}"
            elif not self.stopping:
                self._ask(bmc)

        bmc.asked = False
        try:
            bmc.session = Session(bmc.host, bmc.user, bmc.password, port=bmc.port, onlogon=outcome)
        except (PyghmiException, OSError) as why:
            bmc.session = None
            bmc.trouble = f"login failed: {why}"

    def _ask(self, bmc: Bmc) -> None:
        session = bmc.session

        def answer(response: Mapping[str, Any]) -> None:
            at_us = time.time_ns() // 1000
            session.incommand = False
            if bmc.session is not session:
                return
            bmc.asked = False
            if response.get("code") == 0xFFFF:
                bmc.session = None
                bmc.trouble = f"session lost: {response.get('error', 'timeout')}"
                return
            bmc.misses, bmc.garbage = 0, ""
            code, data = response["code"], bytes(response["data"]).hex()
            _say({"device": bmc.name, "at_us": at_us, "code": code, "data": data})

        bmc.asked = True
        wait_s = self.timeout_s
        if self.attempts > 1:
            # As `HedgedTransport` waits for up to three attempts: pyghmi adds a second to its own
            # timeout at each. It sends the request with the number that it had: a BMC that is only
            # slow answers twice then, and its first answer counts.
            wait_s /= 2
            session.timeout = wait_s / (min(self.attempts, 3) - 1) - 1
        try:
            session.raw_command(
                netfn=_NETFN_GROUP,
                command=_GET_POWER_READING,
                data=_SYSTEM_POWER,
                timeout=wait_s,
                callback=answer,
            )
        except (PyghmiException, OSError) as why:
            bmc.session, bmc.asked = None, False
            bmc.trouble = f"session lost: {why}"

    def _wait(self, delay_s: float) -> None:
        if all(each.session is None for each in self.bmcs):
            time.sleep(max(delay_s, 0))  # pyghmi cannot wait before its first session
            return
        try:
            Session.wait_for_rsp(min(max(delay_s, 0), _LONGEST_WAIT_S))
        except Exception as why:
            # pyghmi at odds with one BMC must not cost the others their turns.
            print(f"ipmi worker: {type(why).__name__}: {why}", file=sys.stderr)
            time.sleep(_LONGEST_WAIT_S)

    def heard_garbage(self, session: Any, why: Exception) -> None:
        for bmc in self.bmcs:
            if bmc.session is session:
                bmc.garbage = f", answers garbage ({type(why).__name__})"

    def _wait_for_the_last_answers(self) -> None:
        deadline = time.monotonic() + self.timeout_s
        while any(each.asked for each in self.bmcs) and time.monotonic() < deadline:
            self._wait(_LONGEST_WAIT_S)


def _survive_garbage(worker: Worker) -> None:
    """pyghmi unpacks what it gets unchecked: half a packet of one BMC would end the worker."""
    process = Session.process_pktqueue

    def guarded(session: Any) -> None:
        while session.pktqueue:
            try:
                process(session)
            except Exception as why:
                worker.heard_garbage(session, why)

    Session.process_pktqueue = guarded


def _say(message: Mapping[str, object]) -> None:
    os.write(1, json.dumps(message, separators=(",", ":")).encode() + b"\n")


def _parent_gone() -> bool:
    return bool(select.select([0], [], [], 0)[0])


def _parent_stopped() -> bool:
    """By SIGSTOP: others may have taken its devices over by now, so they are not asked for it."""
    try:
        with open(f"/proc/{os.getppid()}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] in "Tt"
    except (OSError, IndexError):
        return False


def main() -> None:
    told = json.loads(sys.stdin.readline())
    sys.stdout = sys.stderr  # pyghmi prints now and then; stdout carries answers only
    interval_s = told["interval_s"]
    start = (time.monotonic() // interval_s + 1) * interval_s
    bmcs = [
        Bmc(
            b["name"],
            b["host"],
            b["port"],
            start + b["phase_s"],
            b["user"].encode(),
            b["password"].encode(),
        )
        for b in told["bmcs"]
    ]
    worker = Worker(interval_s, told["timeout_s"], told["attempts"], bmcs)

    _survive_garbage(worker)
    never_wait()

    def stop(*_: object) -> None:
        worker.stopping = True

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        worker.run()
    except BrokenPipeError:
        os._exit(0)
    # pyghmi's thread would wait for minutes.
    os._exit(0)


if __name__ == "__main__":
    main()
