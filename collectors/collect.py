# SPDX-License-Identifier: GPL-2.0-or-later
"""Wires a collector together: devices, transports, watches, spool, sink."""

import asyncio
import logging
import signal
from collections.abc import Coroutine, Iterable

from collectors.bmc import BmcReader, listener
from collectors.devices import Bmc
from collectors.pdu import PduReader
from collectors.poller import phases, poll_pdu
from collectors.settings import Settings
from collectors.sink import Sink
from collectors.spool import Spool
from collectors.transport import SnmpTarget, snmp_engine
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
    log.info(
        "polling %d PDUs and %d BMCs every %g s",
        len(settings.pdus),
        len(settings.bmcs),
        settings.polling.interval_s,
    )
    asyncio.run(_poll(settings, spool))
    sink.stop(within_s=LAST_FLUSH_S)
    spool.close()
    log.info("stopped, %d bytes left in the spool", spool.backlog_bytes())


async def _poll(settings: Settings, spool: Spool) -> None:
    stopping = asyncio.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stopping.set)
    async with asyncio.TaskGroup() as tasks:
        for work in [*_pdu_work(settings, spool, stopping), *_bmc_work(settings, spool, stopping)]:
            tasks.create_task(work)


def _pdu_work(
    settings: Settings, spool: Spool, stopping: asyncio.Event
) -> Iterable[Coroutine[None, None, None]]:
    polling = settings.polling
    engine = snmp_engine(polling.snmp_engine)
    community = settings.secrets.snmp.community.get_secret_value()
    offsets = phases(len(settings.pdus), polling.spread_s)
    for pdu, phase_s in zip(settings.pdus, offsets, strict=True):
        target = SnmpTarget(pdu.host, pdu.port, community, polling.timeout_s)
        yield poll_pdu(
            PduReader(pdu, engine(target)),
            Watch(pdu, stale_after_polls=polling.stale_after_polls, emit=spool.append),
            interval_s=polling.interval_s,
            phase_s=phase_s,
            stopping=stopping,
        )


def _bmc_work(
    settings: Settings, spool: Spool, stopping: asyncio.Event
) -> Iterable[Coroutine[None, None, None]]:
    polling = settings.polling
    access = IpmiAccess(
        user=settings.secrets.ipmi.user,
        password=settings.secrets.ipmi.password.get_secret_value(),
        interval_s=polling.interval_s,
        timeout_s=polling.timeout_s,
    )
    heard = listener(
        {each.name: BmcReader(each) for each in settings.bmcs},
        {
            each.name: Watch(each, stale_after_polls=polling.stale_after_polls, emit=spool.append)
            for each in settings.bmcs
        },
    )
    offsets = phases(len(settings.bmcs), polling.spread_s)
    with_phase: list[tuple[Bmc, float]] = list(zip(settings.bmcs, offsets, strict=True))
    for nth in range(polling.ipmi_processes):
        if share := with_phase[nth :: polling.ipmi_processes]:
            yield run_worker(share, access, heard, stopping=stopping)
