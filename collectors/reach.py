# SPDX-License-Identifier: GPL-2.0-or-later
"""From a device and its secrets to something that reads it."""

from collections.abc import Awaitable
from typing import Protocol

from collectors.devices import Device, Meter
from collectors.readings import Reading
from collectors.secrets import SecretsFile
from collectors.transport import SnmpTarget


class Reader(Protocol):
    """One device that is polled from the event loop."""

    async def read(self) -> Reading:
        """Poll once; raises NoAnswer."""

    def close(self) -> Awaitable[None] | None:
        """Give up the connection; something to wait for where the device must be told."""


def snmp_target(device: Device, secrets: SecretsFile, timeout_s: float) -> SnmpTarget:
    """Where and as whom an SNMP agent is asked."""
    if device.scheme == "snmp3":
        user = secrets.snmp_user(device)
        return SnmpTarget(device.host, device.port, "", timeout_s, user)
    return SnmpTarget(device.host, device.port, secrets.community(device), timeout_s)


def meter_reader(
    meter: Meter, secrets: SecretsFile, timeout_s: float, *, last_good_w: int | None = None
) -> Reader:
    """The reader of a device that needs no profile; a library not needed is not imported."""
    if meter.scheme == "nvml":
        from collectors.nvml import NvmlReader

        return NvmlReader(meter, timeout_s=timeout_s, last_good_w=last_good_w)
    from collectors.redfish import RedfishReader
    from collectors.transport.http import HttpTarget, HttpTransport

    secret = secrets.redfish_secret(meter)
    target = HttpTarget(
        host=meter.host,
        port=meter.port,
        user=secret.user,
        password=secret.password.get_secret_value(),
        session=secret.session,
        tls=secret.tls,
        verify=secret.verify,
        ca_file=secret.ca_file,
        timeout_s=timeout_s,
    )
    return RedfishReader(meter, HttpTransport(target), last_good_w=last_good_w)
