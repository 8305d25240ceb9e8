# SPDX-License-Identifier: GPL-2.0-or-later
"""Take the hook's verdicts from its spool into the ledger, each once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn, Protocol

from broker.services.ports import Store, Verdict


class VerdictSpool(Protocol):
    """The file that the hook appends to."""

    def identity(self) -> str | None:
        """Which file it is now (it may be rotated); None when there is none yet."""

    def read(self, offset: int) -> tuple[list[bytes], int]:
        """Whole lines from an offset, and the offset behind them."""


@dataclass(frozen=True, slots=True)
class Ingest:
    """Reads on from where the ledger says it was; verdicts and place are kept together."""

    spool: VerdictSpool
    store: Store

    def __call__(self) -> int:
        """Returns how many verdicts were new. Raises StoreUnavailable."""
        identity = self.spool.identity()
        if identity is None:
            return 0
        lines, offset = self.spool.read(self.store.spool_offset(identity))
        if not lines:
            return 0
        verdicts = list(_verdicts(lines))
        self.store.add_verdicts(verdicts, spool=identity, offset=offset)
        return len(verdicts)


def _verdicts(lines: Iterable[bytes]) -> Iterator[Verdict]:
    for line in lines:
        try:
            facts = _storable(json.loads(line, parse_constant=_no_constant))
            at = datetime.fromtimestamp(facts["at"], UTC)
            yield Verdict(ticket=str(facts["ticket"]), at=at, facts=facts)
        except (ValueError, KeyError, TypeError, OverflowError, OSError, RecursionError):
            # A line that a crash tore in two; the ones around it are whole.
            continue


def _storable(value: Any) -> Any:
    """What PostgreSQL can keep: one bad job name must not stop the spool for good."""
    match value:
        case str():
            return value.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
        case dict():
            return {_storable(key): _storable(each) for key, each in value.items()}
        case list():
            return [_storable(each) for each in value]
    return value


def _no_constant(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")
