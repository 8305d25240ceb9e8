# SPDX-License-Identifier: GPL-2.0-or-later
"""The real clock."""

from __future__ import annotations

from datetime import UTC, datetime


class SystemClock:
    """UTC, aware."""

    def now(self) -> datetime:
        return datetime.now(UTC)
