# SPDX-License-Identifier: GPL-2.0-or-later
"""Reads one PDU over SNMP: finds out once what it has, then asks for that in one GET a poll."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from collectors.devices import Pdu
from collectors.discovery import (
    DISCOVERED_WITHIN_S,
    SYS_UP_TIME,
    Discovered,
    UnknownDevice,
    discover,
)
from collectors.plausibility import Meaning, fits_int4, judge_power
from collectors.profile import Profile, load_profiles
from collectors.profile_plan import (
    MOST_OIDS,
    Answer,
    Item,
    Plan,
    decoded,
    scale_complaint,
    value_of,
)
from collectors.profile_value import Absence
from collectors.quality_balance import electric_of
from collectors.readings import Identity, Layout, Quality, Reading
from collectors.transport import NoAnswer, SnmpTransport

log = logging.getLogger("powercollectord")

#: A device that lost an object is asked what it has at most so often; every poll would be a flood.
LOOK_AGAIN_S = 60.0
#: A load that jumps while the device is looked at makes a true total look like a wrong scale.
LOOK_TWICE_AFTER_S = 10.0
_MISSED_AT_MOST = 8
_UNREADABLE = "rebooted, and its scale could not be read again"


class PduReader:
    """One PDU, and what discovery told about it."""

    def __init__(
        self,
        pdu: Pdu,
        transport: SnmpTransport,
        *,
        last_good_w: int | None = None,
        most_oids: int = MOST_OIDS,
        discovered_within_s: float = DISCOVERED_WITHIN_S,
    ) -> None:
        self.identity: Identity | None = None
        self.up_time: int | None = None  #: of its agent at the last poll, hundredths of a second
        self._pdu = pdu
        self._transport = transport
        self._most_oids = most_oids
        self._discovered_within_s = discovered_within_s
        self._last_good_w = last_good_w
        self._poll: _Poll | None = None
        self._stranger = ""  #: why the device is not what the inventory says
        self._stale = ""  #: why what is known of it may be wrong; '' when it is not
        self._lost = False  #: an object is gone, or back
        self._unsure = False  #: a total was not believed for the first time
        self._passed_over: frozenset[str] = frozenset()
        self._powerless_since_s: float | None = None  #: its power answers "not supported"
        self._looked_s = 0.0

    async def read(self) -> Reading:
        """Poll once; raises NoAnswer."""
        if self._poll is None:
            await self._discover()
        elif self._should_look_again(time.monotonic()):
            await self._look_again()
        assert self._poll is not None
        answer = await self._asked(self._poll.oids)
        polled_at_us = time.time_ns() // 1000
        if await self._doubt_after_reboot(answer):
            reading = self._reading(self._poll, answer, polled_at_us, doubt=self._stale)
        else:
            # After a reboot it may be another poll's plan by now.
            reading = self._reading(self._poll, answer, polled_at_us)
            self._lost = self._poll.lost_something(answer)
        self._notice_power(reading)
        if reading.quality is Quality.GOOD:
            self._last_good_w = reading.active_power_w
        return reading

    def close(self) -> None:
        self._transport.close()

    async def _asked(self, oids: list[str]) -> Answer:
        """One GET; only a device whose total is a sum of very many objects needs more."""
        if len(oids) <= MOST_OIDS:
            return await self._transport.get(oids)
        answer: dict[str, object] = {}
        for first in range(0, len(oids), MOST_OIDS):
            answer.update(await self._transport.get(oids[first : first + MOST_OIDS]))
        return answer

    async def _discover(self) -> None:
        """Ask who it is and what it has."""
        profiles = self._profiles()
        try:
            found = await discover(
                self._transport,
                profiles,
                chosen=self._pdu.profile_name,
                within_s=self._discovered_within_s,
            )
        except UnknownDevice as why:
            family = self._pdu.profile_name or "PDU of any known family"
            raise NoAnswer(f"{why}, which is no {family}") from why
        self._poll = _Poll(found, self._most_oids, self._poll)
        self._stranger = self._why_a_stranger(found.plan)
        self._unsure = bool(found.plan.passed_over - self._passed_over)
        self._passed_over |= found.plan.passed_over
        self._looked_s = time.monotonic()
        plan = found.plan
        for each in plan.notes:
            log.info("%s: %s", self._pdu.name, each)
        self.identity = Identity(
            self._pdu.name,
            self._pdu.kind,
            time.time_ns() // 1000 if self.identity is None else self.identity.noticed_at_us,
            plan.profile,
            plan.sys_object_id,
            plan.description,
        )

    def _why_a_stranger(self, plan: Plan) -> str:
        """What an operator called another family is not believed, though it has the objects."""
        profile = self._pdu.profile
        if profile is None or not profile.sys_object_ids:
            return ""
        if profile.recognises(plan.sys_object_id) or profile.described_by(plan.description):
            return ""
        answers = plan.sys_object_id or "nothing"
        return f"answers as {answers}, which is no {self._pdu.profile_name}"

    def _profiles(self) -> Mapping[str, Profile]:
        if self._pdu.profile_name and self._pdu.profile is not None:
            return {self._pdu.profile_name: self._pdu.profile}
        return _shipped()

    async def _doubt_after_reboot(self, answer: Answer) -> bool:
        """An agent that started anew may have another scale: ask again before believing it."""
        up_time = answer.get(SYS_UP_TIME)
        if not isinstance(up_time, int) or isinstance(up_time, bool):
            return bool(self._stale) and not await self._look_again()
        rebooted = self.up_time is not None and up_time < self.up_time
        self.up_time = up_time
        if rebooted:
            self._stale = _UNREADABLE
        return bool(self._stale) and not await self._look_again()

    def _should_look_again(self, now_s: float) -> bool:
        """An object that went is missed at once; a "not supported" may pass, and is waited for."""
        since_s = self._powerless_since_s
        powerless = since_s is not None and now_s - since_s >= LOOK_AGAIN_S
        if self._unsure and now_s - self._looked_s >= LOOK_TWICE_AFTER_S:
            return True
        return (self._lost or powerless) and now_s - self._looked_s >= LOOK_AGAIN_S

    def _notice_power(self, reading: Reading) -> None:
        assert self._poll is not None
        if reading.quality is not Quality.NOT_SUPPORTED or self._poll.plan.power is None:
            self._powerless_since_s = None
        elif self._powerless_since_s is None:
            self._powerless_since_s = time.monotonic()

    async def _look_again(self) -> bool:
        """Whether what is known of the device is right again."""
        try:
            await self._discover()
        except NoAnswer as why:
            if self._stale:
                self._stale = f"{_UNREADABLE}: {why}"
            self._looked_s = time.monotonic()
            return False
        self._stale = ""
        self._lost = False
        return True

    def _reading(
        self, poll: "_Poll", answer: Answer, polled_at_us: int, *, doubt: str = ""
    ) -> Reading:
        return reading_of(
            poll.plan,
            answer,
            name=self._pdu.name,
            ceiling_w=self._pdu.ceiling_w,
            polled_at_us=polled_at_us,
            layout=poll.layout,
            items=poll.items,
            last_good_w=self._last_good_w,
            doubt=doubt or self._stranger or poll.partial,
        )


def reading_of(
    plan: Plan,
    answer: Answer,
    *,
    name: str,
    ceiling_w: int,
    polled_at_us: int = 0,
    layout: Layout = ("total.power_factor",),
    items: Sequence[Item] = (),
    last_good_w: int | None = None,
    doubt: str = "",
) -> Reading:
    """An answer as a reading; `layout` names the items, and the power factor behind them."""
    found = decoded(plan, answer)
    bare = Reading(
        device=name,
        kind="pdu",
        polled_at_us=polled_at_us,
        active_power_w=None,
        apparent_power_va=_whole(found.apparent_va),
        energy_wh=None if found.energy_kwh is None else round(found.energy_kwh * 1000),
        quality=Quality.NOT_SUPPORTED,
        layout=layout,
        values=(*(value_of(each, answer) for each in items), found.power_factor),
        energy_source="" if found.energy_kwh is None else "counter",
    )
    if found.power_w is None:
        quality = Quality.IMPLAUSIBLE if found.garbage or doubt else bare.quality
        return replace(bare, quality=quality, note=doubt or found.absence)
    power = judge_power(
        round(found.power_w),
        Meaning(),
        ceiling_w=ceiling_w,
        last_good_w=None if _idle(bare) else last_good_w,
    )
    quality, note = power.quality, power.note
    if plan.refused:
        # What discovery saw may have been a moment's lie.
        doubt = doubt or scale_complaint(found.power_w, plan.rows, answer)
    if doubt:
        quality, note = Quality.IMPLAUSIBLE, doubt
    elif quality is Quality.GOOD and plan.power and not plan.power.measured:
        quality, note = Quality.ESTIMATED, plan.power.says
    return replace(bare, active_power_w=power.active_power_w, quality=quality, note=note)


class _Poll:
    """What is asked of a device in each poll."""

    def __init__(self, found: Discovered, most_oids: int, before: "_Poll | None") -> None:
        self.plan: Plan = found.plan
        #: What would tell the power better, or did so before: asked on, so that its return is seen.
        self._missed = self._missed_by(found, before)
        named = found.plan.polled(most_oids - 1 - len(self._missed))
        self.items: tuple[Item, ...] = tuple(named.values())
        self.layout = (*named, "total.power_factor")
        item_oids = (each.oid for each in self.items)
        self._had = list(dict.fromkeys([SYS_UP_TIME, *self.plan.total_oids(), *item_oids]))
        self.oids = list(dict.fromkeys([*self._had, *(each.oid for each in self._missed)]))
        power = frozenset(self.plan.power.oids if self.plan.power else ())
        #: What its totals were made of so far.
        self._totals: frozenset[frozenset[str]] = before._totals if before else frozenset()
        self._totals |= {power}
        self.partial = _partial(power, self._totals)

    @staticmethod
    def _missed_by(found: Discovered, before: "_Poll | None") -> Sequence[Item]:
        missed = {each.oid: each for each in found.plan.better}
        if before is not None:
            power = before.plan.power
            terms = power.terms if power else ()
            missed |= {item.oid: item for term in terms for item in term}
            missed |= {item.oid: item for item in before._missed}
        # One that has a number is not taken for another reason: its scale is not believed, say.
        absent = [each for each in missed.values() if isinstance(each.value(found.answer), Absence)]
        return absent[:_MISSED_AT_MOST]

    def lost_something(self, answer: Answer) -> bool:
        """Whether the device no longer has all that it had, or has again what it had not."""
        if any(not isinstance(each.value(answer), Absence) for each in self._missed):
            return True
        return any(each not in answer for each in self._had)


def _partial(power: frozenset[str], totals: frozenset[frozenset[str]]) -> str:
    """Why a total is not the whole, by what it was made of before; '' where it is."""
    whole = max((each for each in totals if each > power), key=len, default=power)
    if not power or power == whole:
        return ""
    lacks = f"its total lacks {len(whole) - len(power)} of {len(whole)} parts"
    return f"{lacks}; if they are gone for good, restart the collector"


def _idle(reading: Reading) -> bool:
    """Its own volts and amperes say that nothing is drawn: then 0 W is no lie."""
    electric = electric_of(reading)
    return electric is not None and electric.live and electric.va <= electric.slack


def _whole(value: float | None) -> int | None:
    return None if value is None else fits_int4(round(value))


_known: dict[str, Profile] = {}


def _shipped() -> Mapping[str, Profile]:
    """The profiles that are shipped, read once for all devices."""
    if not _known:
        _known.update(load_profiles())
    return _known
