# SPDX-License-Identifier: GPL-2.0-or-later
"""An SNMP v2c agent for one PDU: GET, GETNEXT, GETBULK; messages coded by pysnmp."""

from bisect import bisect_right
from collections.abc import Iterator

from pyasn1.codec.ber import decoder, encoder
from pyasn1.error import PyAsn1Error
from pysnmp.error import PySnmpError
from pysnmp.proto.api import SNMP_VERSION_2C, decodeMessageVersion, v2c

from tests.fleet.layout import Pdu
from tests.fleet.objects import Oid, objects_of
from tests.fleet.plant import Plant, Reading
from tests.fleet.retransmission import Retransmissions

COMMUNITY = b"public"
_NOT_WRITABLE = 17
_BULK_AT_MOST = 200  # variables in one answer: far below what a UDP datagram takes

VarBind = tuple[object, object]


class SnmpAgent:
    def __init__(self, pdu: Pdu, plant: Plant) -> None:
        self._pdu = pdu
        self._plant = plant
        self._objects = objects_of(pdu)
        self._order = sorted(self._objects.values)
        self._retransmissions = Retransmissions()

    def answer(self, packet: bytes, client: object) -> bytes | None:
        """None: silence, as a real agent gives to a wrong community or to garbage."""
        try:
            return self._answer(packet, client)
        except (PyAsn1Error, PySnmpError):
            return None

    def _answer(self, packet: bytes, client: object) -> bytes | None:
        if self._pdu.name in self._plant.muted or decodeMessageVersion(packet) != SNMP_VERSION_2C:
            return None
        message, _ = decoder.decode(packet, asn1Spec=v2c.Message())
        if bytes(v2c.apiMessage.get_community(message)) != COMMUNITY:
            return None
        request = v2c.apiMessage.get_pdu(message)
        reply = self._reply(request)
        if reply is None:
            return None
        answer = v2c.apiMessage.get_response(message)
        v2c.apiMessage.set_pdu(answer, reply)
        encoded: bytes = encoder.encode(answer)
        if self._asks_for_power(request) and not self._retransmissions.seen(client, packet):
            self._plant.count_pdu_answer(self._pdu)
        return encoded

    def _reply(self, request: object) -> object | None:
        reply = v2c.apiPDU.get_response(request)
        asked = v2c.apiPDU.get_varbinds(request)
        reading = self._plant.pdu_reading(self._pdu)
        kind = request.tagSet  # type: ignore[attr-defined]
        if kind == v2c.GetRequestPDU.tagSet:
            found = [self._get(name, reading) for name, _ in asked]
        elif kind == v2c.GetNextRequestPDU.tagSet:
            found = [next(self._after(name, reading)) for name, _ in asked]
        elif kind == v2c.GetBulkRequestPDU.tagSet:
            found = self._bulk(request, [name for name, _ in asked], reading)
        elif kind == v2c.SetRequestPDU.tagSet:
            v2c.apiPDU.set_error_status(reply, _NOT_WRITABLE)
            v2c.apiPDU.set_error_index(reply, 1)
            found = asked
        else:
            return None
        v2c.apiPDU.set_varbinds(reply, found)
        return reply

    def _get(self, name: object, reading: Reading) -> VarBind:
        measure = self._objects.values.get(tuple(name))  # type: ignore[arg-type]
        value = None if measure is None else measure(reading)
        return name, v2c.NoSuchInstance("") if value is None else value

    def _after(self, name: object, reading: Reading) -> Iterator[VarBind]:
        """Every object after `name`, then end-of-MIB for as long as anyone asks."""
        last: Oid = tuple(name)  # type: ignore[arg-type]
        for after in self._order[bisect_right(self._order, last) :]:
            value = self._objects.values[after](reading)
            if value is not None:
                last = after
                yield v2c.ObjectIdentifier(after), value
        while True:
            yield v2c.ObjectIdentifier(last), v2c.EndOfMibView("")

    def _bulk(self, request: object, names: list[object], reading: Reading) -> list[VarBind]:
        singles = max(0, int(v2c.apiBulkPDU.get_non_repeaters(request)))
        rounds = max(0, int(v2c.apiBulkPDU.get_max_repetitions(request)))
        found = [next(self._after(name, reading)) for name in names[:singles]]
        walks = [self._after(name, reading) for name in names[singles:]]
        rounds = min(rounds, _BULK_AT_MOST // max(1, len(walks)))
        return found + [next(walk) for _ in range(rounds) for walk in walks]

    def _asks_for_power(self, request: object) -> bool:
        # A GETNEXT that names the object is answered with the one after it.
        if request.tagSet != v2c.GetRequestPDU.tagSet:  # type: ignore[attr-defined]
            return False
        power = self._objects.active_power
        return any(tuple(name) == power for name, _ in v2c.apiPDU.get_varbinds(request))
