# SPDX-License-Identifier: GPL-2.0-or-later
"""A request sent again because its answer was slow is answered again, but counted once."""

from collections import OrderedDict

_CLIENTS_KEPT = 256


class Retransmissions:
    def __init__(self) -> None:
        self._last: OrderedDict[object, bytes] = OrderedDict()

    def seen(self, client: object, request: bytes) -> bool:
        """Whether this is the client's last request, byte for byte (its number included)."""
        again = self._last.get(client) == request
        self._last[client] = request
        self._last.move_to_end(client)
        if len(self._last) > _CLIENTS_KEPT:
            self._last.popitem(last=False)
        return again
