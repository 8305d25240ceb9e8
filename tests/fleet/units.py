# SPDX-License-Identifier: GPL-2.0-or-later
"""Watts as people write them: `7.5kW`, `300W`."""

import re

_WATTS = re.compile(r"(?P<number>\d{1,9}(?:\.\d{1,6})?)(?P<unit>W|kW)", re.ASCII)
_FACTOR_W = {"W": 1.0, "kW": 1000.0}


def parse_watts(text: str) -> float:
    """Watts of `7.5kW` or `300W`; a bare number is refused, for nobody knows its unit."""
    match = _WATTS.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is no power: allowed are numbers with W or kW, as in 7.5kW")
    return float(match["number"]) * _FACTOR_W[match["unit"]]
