# SPDX-License-Identifier: GPL-2.0-or-later
"""Wires a collector together: shares, polling, spool, sink, housekeeping, metrics."""

import asyncio
import logging
import resource
import signal
import traceback
from typing import Any

from collectors import metrics
from collectors.housekeeping import Housekeeping
from collectors.polling import Polling, polled_from_here
from collectors.secrets import warnings
from collectors.settings import Settings
from collectors.shard import Member, Pulse, Shares
from collectors.sink import Sink
from collectors.spool import Spool

log = logging.getLogger("powercollectord")

LAST_FLUSH_S = 5.0  #: given to Postgres at the end; what it does not take stays in the spool
_LONGEST_HOLD_S = 3600.0
_OTHER_FILES = 1024  #: spool, databases, workers, HTTP connections


def collect(settings: Settings) -> None:
    """Poll until SIGTERM or SIGINT; every answer is stored or in the spool when this returns."""
    allow_sockets(len(settings.devices) * settings.polling.attempts)
    database, folder = settings.database, settings.spool.dir
    member = Member(folder.with_name(folder.name + ".state"))
    spool = Spool(folder, max_bytes=settings.spool.max_mb * 2**20)
    sink = Sink(
        spool,
        dsn=database.dsn,
        flush_s=database.flush_s,
        partition_days_ahead=database.partition_days_ahead,
        keep_days=database.keep_days,
    )
    housekeeping = Housekeeping(
        dsn=database.dsn,
        hold_s=min(settings.polling.hold_s, _LONGEST_HOLD_S),
        partition_days_ahead=database.partition_days_ahead,
        keep_days=database.keep_days,
        keep_minutes_days=database.keep_minutes_days,
        keep_hours_days=database.keep_hours_days,
    )
    sink.start()
    housekeeping.start()
    _serve_metrics(settings, spool)
    for each in warnings(settings.devices, settings.secrets):
        log.warning("%s", each)
    log.info(
        "polling %d PDUs and %d BMCs every %g s",
        len(settings.pdus),
        len(settings.bmcs),
        settings.polling.interval_s,
    )
    asyncio.run(_poll(settings, spool, member))
    housekeeping.stop()
    sink.stop(within_s=LAST_FLUSH_S)
    spool.close()
    log.info("stopped, %d bytes left in the spool", spool.backlog_bytes())


def allow_sockets(wanted: int) -> None:
    """systemd and shells give 1,024 open files; an agent needs a socket for each attempt."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    enough = wanted + _OTHER_FILES
    if hard != resource.RLIM_INFINITY and hard < enough:
        log.warning(
            "%d files may be open, %d are wanted for all sockets; set LimitNOFILE", hard, enough
        )
        enough = hard
    if soft != resource.RLIM_INFINITY and soft < enough:
        resource.setrlimit(resource.RLIMIT_NOFILE, (enough, hard))


async def _poll(settings: Settings, spool: Spool, member: Member) -> None:
    stopping = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(_one_line)
    for each in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(each, stopping.set)
    sharding = settings.sharding
    # A process stopped for half a lease cannot have lost it yet: it was renewed shortly before.
    pulse = Pulse(sharding.lease_s / 2)
    async with asyncio.TaskGroup() as tasks:
        polling = Polling(settings, spool.append, tasks, pulse.may_poll)
        local = polling.begin_local()
        if settings.bmcs or polled_from_here(settings):
            shares = Shares(
                member,
                pulse,
                polling.poll,
                dsn=settings.database.dsn,
                lease_s=sharding.lease_s,
                renew_s=sharding.renew_s,
            )
            await shares.run(stopping)
        else:
            await stopping.wait()
        await local.end(settings.polling.end_s)


def _one_line(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """What a library did not catch: a device that answers garbage must not fill the log."""
    why = context.get("exception")
    frames = traceback.extract_tb(why.__traceback__) if why else []
    where = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    log.error("unexpected: %s: %r%s", context["message"], why, where)


def _serve_metrics(settings: Settings, spool: Spool) -> None:
    metrics.spool_backlog(spool.backlog_bytes)
    if settings.metrics.listen:
        metrics.serve(settings.metrics.listen)
