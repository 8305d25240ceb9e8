# SPDX-License-Identifier: GPL-2.0-or-later
"""Text and JSON as PostgreSQL takes them: a user's odd byte must never hold up all verdicts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any


def plain_text(text: str) -> str:
    """Without NUL and lone surrogates, which no text column takes."""
    return text.replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def plain_facts(facts: Mapping[str, Any]) -> dict[str, Any]:
    """JSON without NUL, lone surrogates, NaN and infinities, which no jsonb column takes."""
    return {plain_text(key): _plain(value) for key, value in facts.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return plain_text(value)
    if isinstance(value, Mapping):
        return plain_facts(value)
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
