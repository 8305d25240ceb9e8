# SPDX-License-Identifier: GPL-2.0-or-later
"""admission.state on disk: a line per record, never executed, replaced as a whole.

    record key=value key=value ...

Values hold no spaces (anything unusual is percent-encoded); lists have commas; unknown records and
keys are ignored; the last line is `end generation=N`, so that a torn file is seen.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote, unquote

from broker.domain.admission_state import (
    FORMAT_VERSION,
    AdmissionState,
    Lane,
    Layer,
    NodeType,
    PowerClass,
    ReservedPool,
    Switches,
)

MOST_BYTES = 65_536  #: the hook reads no more inside slurmctld
_PLAIN = "._:,@+/[]-"
_Value = str | int | float | Iterable[str] | Iterable[int]


class StateUnreadable(ValueError):
    """A state file that the hook would treat as missing."""


def write_state(path: Path, state: AdmissionState) -> None:
    """Replace the file at once: a reader sees the old one or the new one, whole."""
    data = render(with_admin_uids(state)).encode("ascii")
    if len(data) > MOST_BYTES:
        raise StateUnreadable(f"{path}: {len(data)} bytes, the hook reads at most {MOST_BYTES}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.chmod(0o644)
    temporary.replace(path)


def read_state(path: Path) -> AdmissionState:
    return parse(path.read_text("ascii", errors="replace"))


def with_admin_uids(state: AdmissionState) -> AdmissionState:
    """slurm_job_modify is given a uid only, and must not ask the name service."""
    if state.admin_uids:
        return state
    return replace(state, admin_uids=tuple(_uids(state.admins)))


def _uids(names: Iterable[str]) -> Iterator[int]:
    for name in names:
        try:
            yield pwd.getpwnam(name).pw_uid
        except KeyError:
            continue


def render(state: AdmissionState) -> str:
    return "\n".join(_lines(state)) + "\n"


def _lines(state: AdmissionState) -> Iterator[str]:
    yield _record(
        "power-broker-admission",
        version=FORMAT_VERSION,
        generation=state.generation,
        written_at=state.written_at,
        valid_until=state.valid_until,
        mode=state.mode,
        cluster=state.cluster,
    )
    switches = state.switches
    yield _record(
        "switch",
        when_stale=switches.when_stale,
        when_missing=switches.when_missing,
        stale_after_s=switches.stale_after_s,
        missing_after_s=switches.missing_after_s,
    )
    for word, each in _entries(state):
        yield _record(word, **{name: getattr(each, name) for name in each.__slots__})
    yield _record("admins", users=state.admins, uids=state.admin_uids)
    yield _record("end", generation=state.generation)


def _entries(
    state: AdmissionState,
) -> Iterator[tuple[str, Lane | NodeType | PowerClass | Layer | ReservedPool]]:
    yield from (("lane", lane) for lane in state.lanes)
    yield from (("nodetype", node_type) for node_type in state.node_types)
    yield from (("class", each) for each in state.classes)
    yield from (("layer", layer) for layer in state.layers)
    yield from (("reservation", pool) for pool in state.reservations)


def _record(word: str, **values: _Value) -> str:
    return " ".join([word, *(f"{key}={_encode(value)}" for key, value in values.items())])


def _encode(value: _Value) -> str:
    if isinstance(value, str):
        return quote(value, safe=_PLAIN).replace("~", "%7E")
    if isinstance(value, int | float):
        return str(value)
    return ",".join(quote(str(each), safe=_PLAIN).replace("~", "%7E") for each in value)


# --- reading ------------------------------------------------------------------------------------


def parse(text: str) -> AdmissionState:
    """The state in a text; raises StateUnreadable for anything torn or foreign."""
    records = [_split(line) for line in text.splitlines() if line.strip()]
    if not records or records[0][0] != "power-broker-admission":
        raise StateUnreadable("the first line is not a power-broker-admission record")
    head = records[0][1]
    try:
        if int(head["version"]) != FORMAT_VERSION:
            raise StateUnreadable(f"version {head['version']}, {FORMAT_VERSION} is understood")
        if records[-1][0] != "end" or records[-1][1].get("generation") != head["generation"]:
            raise StateUnreadable("the end record is missing: the file is torn")
        return _build(head, records[1:-1])
    except (KeyError, ValueError) as error:
        if isinstance(error, StateUnreadable):
            raise
        raise StateUnreadable(f"bad record: {error}") from error


def _split(line: str) -> tuple[str, dict[str, str]]:
    word, _, rest = line.strip().partition(" ")
    pairs = (item.partition("=") for item in rest.split())
    return word, {key: unquote(value) for key, _, value in pairs}


def _build(head: Mapping[str, str], records: list[tuple[str, dict[str, str]]]) -> AdmissionState:
    def of(word: str) -> Iterator[dict[str, str]]:
        return (values for record, values in records if record == word)

    switch: dict[str, str] = next(of("switch"), {})
    admins: dict[str, str] = next(of("admins"), {})
    state = AdmissionState(
        generation=int(head["generation"]),
        written_at=int(head["written_at"]),
        valid_until=int(head.get("valid_until", "0")),
        mode=head["mode"],
        cluster=head.get("cluster", ""),
        lanes=tuple(_lane(values) for values in of("lane")),
        node_types=tuple(_node_type(values) for values in of("nodetype")),
        layers=tuple(_layer(values) for values in of("layer")),
        classes=tuple(_class(values) for values in of("class")),
        reservations=tuple(_pool(values) for values in of("reservation")),
        admins=_words(admins.get("users", "")),
        admin_uids=tuple(int(uid) for uid in _words(admins.get("uids", ""))),
        switches=Switches(
            when_stale=switch.get("when_stale", "grants"),
            when_missing=switch.get("when_missing", "hold"),
            stale_after_s=int(switch.get("stale_after_s", "30")),
            missing_after_s=int(switch.get("missing_after_s", "600")),
        ),
    )
    if state.mode not in ("enforce", "observe", "off"):
        raise StateUnreadable(f"mode {state.mode}: must be enforce, observe or off")
    if not (state.lanes and state.node_types and state.racks):
        raise StateUnreadable("no lane, node type or rack in it")
    return state


def _words(text: str) -> tuple[str, ...]:
    return tuple(word for word in text.split(",") if word)


def _lane(values: Mapping[str, str]) -> Lane:
    return Lane(
        values["name"],
        values["partition"],
        values.get("tier_default", "silver"),
        int(values["room_w"]),
    )


def _node_type(values: Mapping[str, str]) -> NodeType:
    return NodeType(
        values["name"],
        idle_w=int(values["idle_w"]),
        max_w=int(values["max_w"]),
        gpus=int(values.get("gpus", "0")),
        nodes=int(values.get("nodes", "0")),
        partitions=_words(values.get("partitions", "")),
        cpus=int(values.get("cpus", "0")),
    )


def _class(values: Mapping[str, str]) -> PowerClass:
    return PowerClass(
        values["name"], float(values.get("est_share", "1")), float(values.get("max_share", "1"))
    )


def _layer(values: Mapping[str, str]) -> Layer:
    return Layer(
        values["name"],
        values["kind"],
        safe_w=int(values.get("safe_w", "0")),
        nodes=int(values["nodes"]),
        tokens_ever_w=int(values["tokens_ever_w"]),
        tokens_now_w=int(values["tokens_now_w"]),
        nodes_now=int(values.get("nodes_now", "0")),
        fenced=int(values.get("fenced", "0")),
        parents=_words(values.get("parents", "")),
    )


def _pool(values: Mapping[str, str]) -> ReservedPool:
    return ReservedPool(
        values["name"],
        values["slurm"],
        accounts=_words(values.get("accounts", "")),
        users=_words(values.get("users", "")),
        racks=_words(values.get("racks", "")),
        nodes=_words(values.get("nodes", "")),
        node_count=int(values["node_count"]),
        tokens_now_w=int(values["tokens_now_w"]),
        tokens_ever_w=int(values["tokens_ever_w"]),
        start=int(values.get("start", "0")),
        end=int(values.get("end", "0")),
        state=values.get("state", "active"),
    )
