# SPDX-License-Identifier: GPL-2.0-or-later
"""What powermgr can show and change. A new column or key is one line here.

A column's name is its header, its word in ``format=`` and its key in JSON, unit included.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from broker.cli.values import (
    Reader,
    one_of,
    read_coming,
    read_count,
    read_duration,
    read_ids,
    read_name,
    read_names,
    read_time,
    read_watts,
)

MODES = ("off", "observe", "enforce")
QUALITIES = ("good", "estimated", "implausible", "not_supported", "silent")


class Kind(Enum):
    """How a value is written in a table."""

    TEXT = "text"
    SENTENCE = "sentence"  #: left-aligned
    TIME = "time"  #: ISO in UTC, shown in local time as Slurm does
    KWH = "kWh"
    MONEY = "money"


@dataclass(frozen=True, slots=True)
class Column:
    """A column; ``where`` reads the values that rows may be picked by."""

    name: str
    kind: Kind = Kind.TEXT
    where: Reader | None = None
    extra: bool = False  #: shown only when ``format=`` asks for it


@dataclass(frozen=True, slots=True)
class Key:
    """A word before ``=``. ``sends`` is its name in the request."""

    name: str
    read: Reader
    example: str
    sends: str = ""
    required: bool = False


@dataclass(frozen=True, slots=True)
class Entity:
    """Something that operators talk about."""

    name: str
    columns: tuple[Column, ...]
    keys: tuple[Key, ...] = ()  #: further keys of ``where``
    add: tuple[Key, ...] = ()
    modify: tuple[Key, ...] = ()
    delete: tuple[Key, ...] = ()
    example: str = ""  #: of ``add`` or ``modify``
    shown: bool = True  #: by ``show``

    @property
    def where(self) -> tuple[Key, ...]:
        picked = (Key(c.name, c.where, "") for c in self.columns if c.where)
        return (*picked, *self.keys)


_WINDOW = (
    Key("start", read_time, "now-1day"),
    Key("end", read_time, "now"),
)
_LIMIT = Key("limit", read_count, "100")


def _layer(name: str, *above: Column) -> Entity:
    return Entity(
        name,
        (
            Column("name", where=read_names),
            *above,
            Column("safe_w"),
            Column("burst_w"),
            Column("committed_w"),
            Column("draw_w"),
            Column("reserved_w"),
            Column("headroom_w"),
            Column("state", where=read_names),
            Column("age_s"),
        ),
    )


_ALL = (
    _layer("rack", Column("row", where=read_names)),
    _layer("row"),
    _layer("site"),
    Entity(
        "node",
        (
            Column("name", where=read_names),
            Column("rack", where=read_names),
            Column("state", where=read_names),
            Column("draw_w"),
            Column("idle_w"),
            Column("max_w"),
            Column("job", where=read_ids),
            Column("charge_w"),
            Column("fenced", where=one_of("yes", "no")),
            Column("age_s"),
        ),
    ),
    Entity(
        "device",
        (
            Column("name", where=read_names),
            Column("kind", where=one_of("pdu", "bmc", "gpu")),
            Column("rack", where=read_names),
            Column("feed", where=read_names),
            Column("profile", where=read_names),
            Column("draw_w"),
            Column("quality", where=one_of(*QUALITIES)),
            Column("age_s"),
            Column("note", Kind.SENTENCE),
            Column("energy_kwh", Kind.KWH, extra=True),
            Column("energy_source", where=one_of("counter", "integrated"), extra=True),
            Column("sys_object_id", extra=True),
            Column("description", Kind.SENTENCE, extra=True),
        ),
    ),
    Entity(
        "sensor",
        (
            Column("device", where=read_names),
            Column("name", where=read_names),
            Column("value"),
            Column("unit"),
            Column("age_s"),
        ),
    ),
    Entity(
        "feed",
        (
            Column("rack", where=read_names),
            Column("feed", where=read_names),
            Column("pdu", where=read_names),
            Column("rating_a"),
            Column("continuous_w"),
            Column("draw_w"),
            Column("share_percent"),
            Column("quality", where=one_of(*QUALITIES)),
            Column("age_s"),
        ),
    ),
    Entity(
        "job",
        (
            Column("jobid", where=read_ids),
            Column("user", where=read_names),
            Column("account", where=read_names),
            Column("lane", where=read_names),
            Column("tier", where=read_names),
            Column("charge_w"),
            Column("draw_w"),
            Column("state", where=read_names),
            Column("reason", where=read_names),
            Column("ticket", where=read_names, extra=True),
            Column("nodes", where=read_names, extra=True),
            Column("racks", where=read_names, extra=True),
            Column("tokens_w", extra=True),
            Column("reservation", where=read_names, extra=True),
            Column("start", Kind.TIME, extra=True),
        ),
    ),
    Entity(
        "reservation",
        (
            Column("name", where=read_names),
            Column("rack", where=read_names),
            Column("nodes", where=read_names),
            Column("power_w"),
            Column("used_w"),
            Column("account", where=read_names),
            Column("user", where=read_names),
            Column("start", Kind.TIME),
            Column("end", Kind.TIME),
            Column("state", where=read_names),
            Column("reason", Kind.SENTENCE),
        ),
        add=(
            Key("name", read_name, "launch", required=True),
            Key("rack", read_name, "r2", required=True),
            Key("watts", read_watts, "20kW", sends="power_w", required=True),
            Key("nodes", read_count, "2", required=True),
            Key("start", read_coming, "now+1minute"),
            Key("end", read_coming, "2026-12-01T18:00"),
            Key("duration", read_duration, "30"),
            Key("account", read_names, "ml", sends="accounts"),
            Key("user", read_names, "alice", sends="users"),
        ),
        delete=(Key("name", read_name, "launch", required=True),),
        example="add reservation name=launch rack=r2 watts=20kW nodes=2 start=now+1minute"
        " duration=30 account=ml",
    ),
    Entity(
        "decision",
        (
            Column("at", Kind.TIME),
            Column("ticket", where=read_names),
            Column("jobid", where=read_ids),
            Column("user", where=read_names),
            Column("verdict", where=read_names),
            Column("reason", where=read_names),
            Column("message", Kind.SENTENCE),
        ),
        keys=(*_WINDOW, _LIMIT),
    ),
    Entity(
        "action",
        (
            Column("at", Kind.TIME),
            Column("kind", where=read_names),
            Column("target", where=read_names),
            Column("outcome", where=read_names),
            Column("because", Kind.SENTENCE),
        ),
        keys=(*_WINDOW, _LIMIT),
    ),
    Entity(
        "broker",
        (
            Column("mode"),
            Column("leader"),
            Column("generation"),
            Column("cycle_s"),
            Column("last_cycle", Kind.TIME),
            Column("last_sentence", Kind.SENTENCE),
        ),
        modify=(Key("mode", one_of(*MODES), "observe", required=True),),
        example="modify broker set mode=observe",
    ),
    Entity(
        "showback",
        (
            Column("account"),
            Column("jobs"),
            Column("metered_kwh", Kind.KWH),
            Column("reserved_kwh", Kind.KWH),
            Column("unused_kwh", Kind.KWH),
            Column("cost", Kind.MONEY),
        ),
        keys=(*_WINDOW, Key("account", read_names, "ml")),
        shown=False,
    ),
    Entity(
        "story",
        (
            Column("at", Kind.TIME),
            Column("event", Kind.SENTENCE),
            Column("text", Kind.SENTENCE),
        ),
        shown=False,
    ),
    Entity(
        "plan",
        (
            Column("lane"),
            Column("verdict"),
            Column("reason"),
            Column("nodes"),
            Column("charge_w"),
            Column("tokens_w_per_node"),
            Column("racks"),
            Column("earliest", Kind.TIME),
        ),
        shown=False,
    ),
)

ENTITIES: dict[str, Entity] = {each.name: each for each in _ALL}
