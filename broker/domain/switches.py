# SPDX-License-Identifier: GPL-2.0-or-later
"""How far the broker may go."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """A new installation starts in ``observe``."""

    OFF = "off"  #: touches nothing, and has taken back what was its own
    OBSERVE = "observe"  #: decides, records and says what it would do; Slurm is left alone
    ENFORCE = "enforce"
