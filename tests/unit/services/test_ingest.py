# SPDX-License-Identifier: GPL-2.0-or-later
"""The hook's verdicts get into the ledger, each once, whatever stands in the spool."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.errors import StoreUnavailable
from broker.services.ingest import Ingest
from broker.testing.memory_store import MemoryStore

GOOD = {"v": 1, "ticket": "T1", "at": 1_790_000_000, "user": "alice", "verdict": "accept"}


@dataclass
class Spool:
    data: bytes = b""
    name: str | None = "8:1"

    def identity(self) -> str | None:
        return self.name

    def read(self, offset: int) -> tuple[list[bytes], int]:
        whole = self.data[offset : self.data.rfind(b"\n") + 1]
        return whole.splitlines(), offset + len(whole)


def line(**others: object) -> bytes:
    return json.dumps({**GOOD, **others}).encode() + b"\n"


def test_each_verdict_once() -> None:
    spool, store = Spool(line() + line(ticket="T2")), MemoryStore()
    ingest = Ingest(spool, store)

    assert ingest() == 2
    assert ingest() == 0
    spool.data += line(ticket="T3")
    assert Ingest(spool, store)() == 1
    assert {each.ticket for each in store.verdicts()} == {"T1", "T2", "T3"}


def test_no_spool_yet() -> None:
    assert Ingest(Spool(name=None), MemoryStore())() == 0


def test_the_ledger_away_it_is_read_again() -> None:
    spool, store = Spool(line()), MemoryStore()
    store.away = "connection refused"
    with pytest.raises(StoreUnavailable):
        Ingest(spool, store)()
    store.away = ""

    assert Ingest(spool, store)() == 1


TORN = {
    "half a line": b'{"v":1,"ticket":"T\n',
    "no object": b"[1, 2]\n",
    "a number": b"7\n",
    "no ticket": json.dumps({"at": 1}).encode() + b"\n",
    "no time": json.dumps({"ticket": "T"}).encode() + b"\n",
    "a time that is no number": line(at="noon"),
    "a time in the year of the dinosaurs": line(at=-(10**18)),
    "not a number": line(at=float("nan")),
    "an infinite charge, which no ledger keeps": line(charge_w=float("inf")),
    "bytes that are no text": b'{"ticket":"\xff\xfe"}\n',
    "brackets without end": b"[" * 100_000 + b"\n",
    "nothing": b"\n",
}


@pytest.mark.parametrize("torn", TORN.values(), ids=TORN.keys())
def test_a_torn_line_takes_none_of_its_neighbours_with_it(torn: bytes) -> None:
    store = MemoryStore()

    assert Ingest(Spool(line() + torn + line(ticket="T2")), store)() == 2
    assert store.spool_offset("8:1") == len(line() + torn + line(ticket="T2"))


def test_what_postgres_cannot_keep_is_made_fit() -> None:
    store = MemoryStore()
    Ingest(Spool(line(job_name="a\0b\ud800c", message=["\0"])), store)()

    facts = store.verdicts()[0].facts
    assert facts["job_name"] == "a\ufffdb?c"
    assert facts["message"] == ["\ufffd"]
    json.dumps(facts).encode()


@given(st.binary(max_size=300))
def test_garbage_is_passed_over(garbage: bytes) -> None:
    store = MemoryStore()

    Ingest(Spool(garbage + b"\n" + line(ticket="T9")), store)()

    assert [each.ticket for each in store.verdicts() if each.ticket == "T9"] == ["T9"]
