# SPDX-License-Identifier: GPL-2.0-or-later
"""Wires a collector together: devices, transports, watches, spool, sink."""

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass

from collectors.bmc import BmcReader, listener
from collectors.devices import Device
from collectors.pdu import PduReader
from collectors.poller import phases, poll_pdu
from collectors.reach import meter_reader, snmp_target
from collectors.readings import Record
from collectors.secrets import warnings
from collectors.settings import Settings
from collectors.sink import Sink, last_good_power
from collectors.spool import Spool
from collectors.transport import snmp_engine
from collectors.transport.ipmi import IpmiAccess, run_worker
from collectors.watch import Watch

log = logging.getLogger("powercollectord")

LAST_FLUSH_S = 5.0  #: given to Postgres at the end; what it does not take stays in the spool


def collect(settings: Settings) -> None:
    """Poll until SIGTERM or SIGINT; every answer is stored or in the spool when this returns."""
    spool = Spool(settings.spool.dir, max_bytes=settings.spool.max_mb * 2**20)
    sink = Sink(
        spool,
        dsn=settings.database.dsn,
        flush_s=settings.database.flush_s,
        partition_days_ahead=settings.database.partition_days_ahead,
        keep_days=settings.database.keep_days,
    )
    sink.start()
    for each in warnings(settings.devices, settings.secrets):
        log.warning("%s", each)
    log.info(
        "polling %d PDUs and %d BMCs every %g s",
        len(settings.pdus),
        len(settings.bmcs),
        settings.polling.interval_s,
    )
    asyncio.run(_poll(settings, spool, last_good_power(settings.database.dsn)))
    sink.stop(within_s=LAST_FLUSH_S)
    spool.close()
    log.info("stopped, %d bytes left in the spool", spool.backlog_bytes())


async def _poll(settings: Settings, spool: Spool, last_good_w: Mapping[str, int]) -> None:
    round_ = _Round(settings, spool.append, last_good_w, asyncio.Event())
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, round_.stopping.set)
    async with asyncio.TaskGroup() as tasks:
        for work in [*_pdu_work(round_), *_bmc_work(round_), *_meter_work(round_)]:
            tasks.create_task(work)


@dataclass(frozen=True, slots=True)
class _Round:
    """What all pollers share."""

    settings: Settings
    emit: Callable[[Record], None]
    last_good_w: Mapping[str, int]
    stopping: asyncio.Event

    def watch(self, device: Device) -> Watch:
        stale_after_polls = self.settings.polling.stale_after_polls
        return Watch(device, stale_after_polls=stale_after_polls, emit=self.emit)


def _pdu_work(round_: _Round) -> Iterable[Coroutine[None, None, None]]:
    polling, pdus = round_.settings.polling, round_.settings.pdus
    engine = snmp_engine(polling.snmp_engine)
    for pdu, phase_s in zip(pdus, phases(len(pdus), polling.spread_s), strict=True):
        transport = engine(snmp_target(pdu, round_.settings.secrets, polling.timeout_s))
        yield poll_pdu(
            PduReader(pdu, transport, last_good_w=round_.last_good_w.get(pdu.name)),
            round_.watch(pdu),
            interval_s=polling.interval_s,
            phase_s=phase_s,
            stopping=round_.stopping,
        )


def _meter_work(round_: _Round) -> Iterable[Coroutine[None, None, None]]:
    polling, meters = round_.settings.polling, round_.settings.meters
    for meter, phase_s in zip(meters, phases(len(meters), polling.spread_s), strict=True):
        reader = meter_reader(
            meter,
            round_.settings.secrets,
            polling.timeout_s,
            last_good_w=round_.last_good_w.get(meter.name),
        )
        yield poll_pdu(
            reader,
            round_.watch(meter),
            interval_s=polling.interval_s,
            phase_s=phase_s,
            stopping=round_.stopping,
        )


def _bmc_work(round_: _Round) -> Iterable[Coroutine[None, None, None]]:
    polling, bmcs = round_.settings.polling, round_.settings.bmcs
    access = IpmiAccess(
        logins={each.name: round_.settings.secrets.login(each) for each in bmcs},
        interval_s=polling.interval_s,
        timeout_s=polling.timeout_s,
    )
    heard = listener(
        {b.name: BmcReader(b, last_good_w=round_.last_good_w.get(b.name)) for b in bmcs},
        {each.name: round_.watch(each) for each in bmcs},
    )
    with_phase = list(zip(bmcs, phases(len(bmcs), polling.spread_s), strict=True))
    for nth in range(polling.ipmi_processes):
        if share := with_phase[nth :: polling.ipmi_processes]:
            yield run_worker(share, access, heard, stopping=round_.stopping)
