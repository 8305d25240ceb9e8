# SPDX-License-Identifier: GPL-2.0-or-later
"""Take the hook's verdicts from its spool into the ledger, each once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol

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
            facts = json.loads(line)
            at = datetime.fromtimestamp(facts["at"], UTC)
            yield Verdict(ticket=str(facts["ticket"]), at=at, facts=facts)
        except (ValueError, KeyError, TypeError, OverflowError, OSError):
            # A line that a crash tore in two; the ones around it are whole.
            continue
