# SPDX-License-Identifier: GPL-2.0-or-later
"""Polls the devices of the shares that are ours now, and no others."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from collectors.bmc import BmcReader, listener
from collectors.devices import Bmc, Device, Meter, Pdu
from collectors.pdu import PduReader
from collectors.poller import phases, poll
from collectors.quality import Judge, LastKnown, last_known
from collectors.reach import Reader, meter_reader, snmp_target
from collectors.readings import Record
from collectors.settings import Settings
from collectors.shard import share_of
from collectors.transport import SnmpEngine, snmp_engine
from collectors.transport.ipmi import IpmiAccess, run_worker
from collectors.watch import Watch

Work = Coroutine[None, None, None]


@dataclass(slots=True)
class Group:
    """Devices that are begun and ended together."""

    watches: Sequence[Watch]
    stopping: asyncio.Event
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    async def end(self, within_s: float) -> None:
        """Polls under way are waited for, so that their answers are kept.

        Not so a discovery, which may take minutes and stores nothing.
        """
        self.stopping.set()
        for patience_s in (within_s, None):
            if self.tasks:
                await asyncio.wait(self.tasks, timeout=patience_s)
            for task in self.tasks:
                task.cancel()
        for each in self.watches:
            each.forget()


class Polling:
    def __init__(
        self,
        settings: Settings,
        emit: Callable[[Record], None],
        tasks: asyncio.TaskGroup,
        may_poll: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._emit = emit
        self._tasks = tasks
        self._may_poll = may_poll
        devices = settings.devices
        # By the place in the whole inventory: a device keeps its turn whoever polls it.
        self._phase_s = dict(
            zip(
                (each.name for each in devices),
                phases(len(devices), settings.polling.spread_s),
                strict=True,
            )
        )
        self._groups: dict[int, Group] = {}
        self._bmcs: tuple[Bmc, ...] = ()
        self._workers: Group | None = None
        self._last: Mapping[str, LastKnown] = {}
        self._judges: dict[str, Judge] = {}

    async def poll(self, shares: frozenset[int]) -> None:
        """Poll the devices of these shares from now on; when this returns the others are not."""
        given_up = [self._groups.pop(each) for each in self._groups.keys() - shares]
        bmcs = tuple(each for each in self._settings.bmcs if share_of(each.name) in shares)
        workers = self._workers if bmcs != self._bmcs else None
        ending = [*given_up, *([workers] if workers else [])]
        await asyncio.gather(*(each.end(self._settings.polling.end_s) for each in ending))
        fresh = shares - self._groups.keys()
        self._judges = {
            name: each for name, each in self._judges.items() if share_of(name) in shares - fresh
        }
        if fresh:
            # What another collector polled meanwhile goes on where that one left it.
            names = [each.name for each in self._settings.devices if share_of(each.name) in fresh]
            await asyncio.to_thread(self._remember, names)
        for share in fresh:
            self._groups[share] = self._begin(
                [each for each in polled_from_here(self._settings) if share_of(each.name) == share],
                self._may_poll,
            )
        if bmcs != self._bmcs:
            self._bmcs = bmcs
            self._workers = self._begin_workers(bmcs)

    def begin_local(self) -> Group:
        """Begin with the GPUs of this node: they are nobody else's, whatever the shares."""
        local = [each for each in self._settings.meters if each.scheme == "nvml"]
        if local:
            self._remember([each.name for each in local])
        return self._begin(local, lambda: True)

    def _remember(self, names: Sequence[str]) -> None:
        self._last = {**self._last, **last_known(self._settings.database.dsn, names)}

    def _begin(self, devices: Sequence[Pdu | Meter], may_poll: Callable[[], bool]) -> Group:
        polling, stopping = self._settings.polling, asyncio.Event()
        group = Group([self._watch(each) for each in devices], stopping)
        engine = snmp_engine(polling.snmp_engine, attempts=polling.attempts)
        for device, watch in zip(devices, group.watches, strict=True):
            work = poll(
                self._reader(device, engine),
                watch,
                interval_s=polling.interval_s,
                phase_s=self._phase_s[device.name],
                stopping=stopping,
                may_poll=may_poll,
            )
            group.tasks.append(self._tasks.create_task(work))
        return group

    def _reader(self, device: Pdu | Meter, engine: SnmpEngine) -> Reader:
        timeout_s, secrets = self._settings.polling.timeout_s, self._settings.secrets
        last_good_w = self._last_good_w(device)
        if isinstance(device, Pdu):
            transport = engine(snmp_target(device, secrets, timeout_s))
            return PduReader(device, transport, last_good_w=last_good_w)
        return meter_reader(device, secrets, timeout_s, last_good_w=last_good_w)

    def _begin_workers(self, bmcs: Sequence[Bmc]) -> Group:
        stopping = asyncio.Event()
        group = Group([self._watch(each) for each in bmcs], stopping)
        for work in self._worker_work(bmcs, group.watches, stopping):
            group.tasks.append(self._tasks.create_task(work))
        return group

    def _worker_work(
        self, bmcs: Sequence[Bmc], watches: Sequence[Watch], stopping: asyncio.Event
    ) -> Iterable[Work]:
        polling = self._settings.polling
        access = IpmiAccess(
            logins={each.name: self._settings.secrets.login(each) for each in bmcs},
            interval_s=polling.interval_s,
            timeout_s=polling.timeout_s,
            attempts=polling.attempts,
        )
        heard = listener(
            {each.name: BmcReader(each, last_good_w=self._last_good_w(each)) for each in bmcs},
            {bmc.name: watch for bmc, watch in zip(bmcs, watches, strict=True)},
        )
        for nth in range(polling.ipmi_processes):
            if part := bmcs[nth :: polling.ipmi_processes]:
                with_phase = [(each, self._phase_s[each.name]) for each in part]
                yield run_worker(with_phase, access, heard, stopping=stopping)

    def _watch(self, device: Device) -> Watch:
        stale_after_polls = self._settings.polling.stale_after_polls
        return Watch(
            device,
            stale_after_polls=stale_after_polls,
            emit=self._emit,
            judge=self._judge(device),
        )

    def _judge(self, device: Device) -> Judge:
        """The one that knows it already, when its neighbours alone came or went."""
        if device.name not in self._judges:
            self._judges[device.name] = Judge(
                device,
                interval_s=self._settings.polling.interval_s,
                last=self._last.get(device.name),
            )
        return self._judges[device.name]

    def _last_good_w(self, device: Device) -> int | None:
        last = self._last.get(device.name)
        return last.good_w if last else None


def polled_from_here(settings: Settings) -> list[Pdu | Meter]:
    """What is polled from the event loop and may be polled by any collector."""
    return [*settings.pdus, *(each for each in settings.meters if each.scheme != "nvml")]
