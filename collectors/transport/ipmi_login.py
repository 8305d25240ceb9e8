# SPDX-License-Identifier: GPL-2.0-or-later
"""The last step of pyghmi's login without waiting: Set Session Privilege Level (IPMI 2.0, 22.18).

pyghmi 1.6 waits for its answer with everything else standing still, so a BMC that accepts a login
and then says nothing would hold up all others of its worker for seconds.
"""

from collections.abc import Callable, Mapping
from typing import Any

from pyghmi.ipmi.private import session as pyghmi
from pyghmi.ipmi.private import util

_APPLICATION, _SET_PRIVILEGE = 0x06, 0x3B
_ADMINISTRATOR, _OPERATOR = 4, 3
_NOT_THIS_LEVEL = (0x80, 0x81)
_TIMED_OUT = 0xFFFF


def never_wait() -> None:
    """From here on, for every session of this process."""
    pyghmi.Session._req_priv_level = _ask_for_privilege


def _ask_for_privilege(session: Any) -> None:
    session.logged, session.logoutexpiry, session.maxtimeout = 1, None, 4
    # No second login by pyghmi: with a request under way it would wait too. The worker logs in.
    session.logontries = 0

    def ask() -> None:
        session.raw_command(
            netfn=_APPLICATION, command=_SET_PRIVILEGE, data=[session.privlevel], callback=answer
        )

    def answer(response: Mapping[str, Any]) -> None:
        session.incommand = False
        code = response.get("code", _TIMED_OUT)
        if code in _NOT_THIS_LEVEL and session.privlevel == _ADMINISTRATOR:
            session.privlevel = _OPERATOR
            _soon(session, ask)
        elif code:
            session.logged, session.logging = 0, False
            session.onlogon({"error": response.get("error", f"privilege refused, 0x{code:02x}")})
        else:
            _soon(session, logged_in)

    def logged_in() -> None:
        session.logging = False
        with util.protect(pyghmi.KEEPALIVE_SESSIONS):
            # pyghmi's clock: os.times(), which need not start where time.monotonic() does.
            idle_until_s = util._monotonic_time() + pyghmi.MAX_IDLE - 5
            pyghmi.Session.keepalive_sessions[session] = {
                "ipmisession": session,
                "timeout": idle_until_s,
            }
        session.onlogon({"success": True})

    _soon(session, ask)


def _soon(session: Any, step: Callable[[], None]) -> None:
    """In the next round: pyghmi forgets a request sent while it handles an answer, and drops the
    answer to that request as one to nothing it asked."""

    def take(_: object) -> None:
        if not session.broken:
            step()

    pyghmi.Session.iterwaiters.append(take)
