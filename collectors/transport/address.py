# SPDX-License-Identifier: GPL-2.0-or-later
"""Names of devices become addresses here: gufo wants addresses, pysnmp wants the family."""

import asyncio
import socket
from ipaddress import ip_address

from collectors.transport import NoAnswer


def is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


async def address_of(host: str) -> str:
    """An address of a host, IPv4 or IPv6. Raises NoAnswer for a name that nobody knows."""
    if is_address(host):
        return host
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, None, type=socket.SOCK_DGRAM)
    except OSError as why:
        raise NoAnswer(f"its name {host} is not known: {why.strerror or why}") from why
    # IPv4 first: a PDU's network card that has both often answers on that one only.
    addresses = sorted(found, key=lambda each: each[0] != socket.AF_INET)
    return str(addresses[0][4][0])
