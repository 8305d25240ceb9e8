# SPDX-License-Identifier: GPL-2.0-or-later
"""A BMC speaking IPMI 2.0 over LAN with DCMI power: pyghmi's server, routed by session id.

pyghmi keeps the sessions of a whole process by client address, and its client shares one socket
among many BMCs, so several of its servers in one process lose each other's sessions.  Here each
BMC reads its own socket and finds the session by its id, as real ones do; so all BMCs live in
one process, without pyghmi's threads.
"""

import socket
import struct
import time
import uuid
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Any

from pyghmi.ipmi.bmc import Bmc
from pyghmi.ipmi.private.serversession import ServerSession
from pyghmi.ipmi.private.session import Session

from tests.fleet.layout import Node
from tests.fleet.plant import NOT_SUPPORTED, Plant
from tests.fleet.retransmission import Retransmissions

USERS = {"admin": "password"}
IDLE_SESSION_S = 60.0  # the specification's inactivity timeout
_SESSIONS_AT_MOST = 64

_IPMI_2 = 6
_PAYLOAD_IPMI, _PAYLOAD_OPEN, _PAYLOAD_RAKP1, _PAYLOAD_RAKP3 = 0x00, 0x10, 0x12, 0x14
_SHA1 = 1
_INVALID_AUTHENTICATION = 0x04
_NETFN_GROUP, _DCMI = 0x2C, 0xDC
_OK, _NO_LIMIT_SET, _LIMIT_OUT_OF_RANGE, _BAD_LENGTH, _BAD_FIELD = 0x00, 0x80, 0x84, 0xC7, 0xCC
_WATTS_AT_MOST = 0xFFFF
_MEASURING = 0x40
_PERIOD_MS = 1000
_CAPABILITIES = {
    1: (0, 1, 7),
    2: (0, 0, 0, 0, 0),
    3: (0x20, 0),
    4: (0, 0, 0x0F),
    5: (1, 0x41),
}

Answer = tuple[int, bytes]  # completion code, data


class SimulatedBmc(Bmc):
    def __init__(self, node: Node, plant: Plant, serversocket: socket.socket) -> None:
        # IpmiServer.__init__ opens the socket itself and starts a thread; these are its fields.
        self.revision = self.deviceid = self.additionaldevices = self.mfgid = self.prodid = 0
        self.firmwaremajor, self.firmwareminor, self.ipmiversion = 1, 0, 2
        self.authcap = bytes((0, 1, 0b10000000, 0b00000100, 0b00000010, 0, 0, 0, 0))
        self.authdata = USERS
        self.kg = None
        self.uuid = uuid.uuid5(uuid.NAMESPACE_DNS, node.bmc)
        self.port = serversocket.getsockname()[1]
        self.serversocket = serversocket
        self.pktqueue: deque[object] = deque()
        self._node = node
        self._plant = plant
        self._sessions: OrderedDict[bytes, ServerSession] = OrderedDict()
        self._used_at: dict[bytes, float] = {}
        self._retransmissions = Retransmissions()
        self._limit: tuple[int, int, int, int] | None = None
        self._commands: dict[int, Callable[[bytes], Answer]] = {
            1: self._capabilities,
            2: self._power_reading,
            3: self._get_limit,
            4: self._set_limit,
            5: self._activate_limit,
        }

    @property
    def session_count(self) -> int:
        return len(self._sessions)

    def receive(self, packet: bytes, client: Any) -> None:
        if self._node.bmc in self._plant.muted or packet[:1] + packet[2:4] != b"\x06\xff\x07":
            return
        try:
            self._route(bytearray(packet), client)
        except (AttributeError, IndexError, KeyError, ValueError, struct.error):
            return  # half a packet, or one out of turn: pyghmi's sessions do not check

    def drop_idle_sessions(self) -> None:
        oldest_used = time.monotonic() - IDLE_SESSION_S
        for session_id in [key for key, at in self._used_at.items() if at < oldest_used]:
            self._forget(session_id)

    def get_power_state(self) -> str:
        return "on"

    def get_system_guid(self) -> uuid.UUID:
        return self.uuid

    def handle_raw_request(self, request: dict[str, Any], session: ServerSession) -> None:
        data = bytes(request["data"])
        if request["netfn"] != _NETFN_GROUP or data[:1] != bytes((_DCMI,)):
            super().handle_raw_request(request, session)
            return
        command = self._commands.get(request["command"])
        if command is None:
            session.send_ipmi_response(code=0xC1)
            return
        code, body = command(data)
        if request["command"] == 2:
            again = bytes((session.seqlun, session.rqlun))
            if not self._retransmissions.seen(bytes(session.managedsessionid), again):
                self._plant.answers[self._node.bmc] += 1
        session.send_ipmi_response(code=code, data=bytes((_DCMI,)) + body)

    def _route(self, packet: bytearray, client: Any) -> None:
        kind = packet[5] & 0x3F
        if packet[4] == _IPMI_2 and kind == _PAYLOAD_OPEN:
            self._open_session(packet, client)
        elif packet[4] == _IPMI_2 and kind in (_PAYLOAD_RAKP1, _PAYLOAD_RAKP3):
            self._use_session(bytes(packet[20:24]), packet, client)
        elif packet[4] == _IPMI_2 and any(packet[6:10]):
            self._use_session(bytes(packet[6:10]), packet, client)
        else:
            self.sessionless_data(packet, client)

    def _open_session(self, packet: bytearray, client: Any) -> None:
        if packet[28] != _SHA1:
            # pyghmi's server knows suite 3 only but agrees to anything; refused, clients that
            # try SHA256 first come back with SHA1.
            self._refuse_authentication(packet, client)
            return
        session = ServerSession(
            self.authdata, self.kg, client, self.serversocket, packet[16:], self.uuid, bmc=self
        )
        Session.bmc_handlers.clear()  # its own, process-wide book of sessions
        session_id = bytes(session.managedsessionid)
        session.close_server_session = lambda: self._forget(session_id)
        self._sessions[session_id] = session
        self._used_at[session_id] = time.monotonic()
        while len(self._sessions) > _SESSIONS_AT_MOST:
            self._forget(next(iter(self._sessions)))

    def _refuse_authentication(self, packet: bytearray, client: Any) -> None:
        body = bytes((packet[16], _INVALID_AUTHENTICATION, 0, 0)) + bytes(packet[20:24])
        header = b"\x06\x00\xff\x07\x06\x11" + bytes(8) + struct.pack("<H", len(body))
        self.serversocket.sendto(header + body, client)

    def _use_session(self, session_id: bytes, packet: bytearray, client: Any) -> None:
        session = self._sessions[session_id]
        self._sessions.move_to_end(session_id)
        self._used_at[session_id] = time.monotonic()
        session._handle_ipmi_packet(packet, sockaddr=client)

    def _forget(self, session_id: bytes) -> None:
        self._sessions.pop(session_id, None)
        self._used_at.pop(session_id, None)

    def _capabilities(self, data: bytes) -> Answer:
        parameters = _CAPABILITIES.get(data[1])
        return (0xC9, b"") if parameters is None else (_OK, bytes((1, 5, 2, *parameters)))

    def _power_reading(self, data: bytes) -> Answer:
        claimed_w = self._plant.lies_w.get(self._node.bmc, self._plant.node_w[self._node.name])
        # DCMI's `not supported` is a reading with the measurement marked inactive.
        measuring = 0 if claimed_w == NOT_SUPPORTED else _MEASURING
        watts = min(max(int(claimed_w), 0), _WATTS_AT_MOST)
        return _OK, struct.pack(
            "<HHHHIIB", watts, watts, watts, watts, int(time.time()), _PERIOD_MS, measuring
        )

    def _get_limit(self, data: bytes) -> Answer:
        action, watts, correction_ms, period_s = self._limit or (0, 0, 0, 0)
        active = self._node.name in self._plant.caps_w
        body = struct.pack("<HBHIHH", 0, action, watts, correction_ms, 0, period_s)
        return (_OK if active else _NO_LIMIT_SET), body

    def _set_limit(self, data: bytes) -> Answer:
        if len(data) < 15:
            return _BAD_LENGTH, b""
        action, watts, correction_ms, _, period_s = struct.unpack("<BHIHH", data[4:15])
        if watts < self._node.idle_w:
            return _LIMIT_OUT_OF_RANGE, b""
        self._limit = (action, watts, correction_ms, period_s)
        if self._node.name in self._plant.caps_w:
            self._plant.caps_w[self._node.name] = watts
        return _OK, b""

    def _activate_limit(self, data: bytes) -> Answer:
        if len(data) < 2 or self._limit is None:
            return _BAD_FIELD, b""
        if data[1]:
            self._plant.caps_w[self._node.name] = self._limit[1]
        else:
            self._plant.caps_w.pop(self._node.name, None)
        return _OK, b""
