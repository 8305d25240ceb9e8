# SPDX-License-Identifier: GPL-2.0-or-later
"""What no rack's device can show beside its power: such a value is left out of its reading."""

from dataclasses import replace
from functools import lru_cache

from collectors.readings import Layout, Reading

#: Least and most by what a name ends in; wide, for they tell garbage, not trouble.
_BOUNDS = (
    ("_w", 0.0, 1e6),
    ("_va", 0.0, 1e6),
    ("_a", 0.0, 10_000.0),
    ("_v", 0.0, 100_000.0),
    ("temperature_c", -60.0, 200.0),
    ("humidity_percent", 0.0, 100.0),
    ("power_factor", -1.0, 1.0),
    ("", -1e15, 1e15),
)
_MOST_WH = 10**15  #: a site's lifetime; adding to it must not run over its column


def bounded(reading: Reading) -> Reading:
    """The same reading; values out of all bounds are None."""
    if reading.energy_wh is not None and not 0 <= reading.energy_wh <= _MOST_WH:
        reading = replace(reading, energy_wh=None, energy_source="")
    bounds = _bounds_of(reading.layout)
    pairs = zip(reading.values, bounds, strict=True)
    if all(value is None or low <= value <= high for value, (low, high) in pairs):
        return reading
    kept = tuple(
        value if value is not None and low <= value <= high else None
        for value, (low, high) in zip(reading.values, bounds, strict=True)
    )
    return replace(reading, values=kept)


@lru_cache(maxsize=4096)
def _bounds_of(layout: Layout) -> tuple[tuple[float, float], ...]:
    return tuple(_bounds(name) for name in layout)


def _bounds(name: str) -> tuple[float, float]:
    return next((low, high) for end, low, high in _BOUNDS if name.endswith(end))
