# SPDX-License-Identifier: GPL-2.0-or-later
"""Readings as Postgres' COPY text, made by hand: the driver's rows cost three times as much."""

from collections.abc import Iterable, Mapping

from collectors.readings import Layout, Reading

INCOMING = """
    CREATE TEMPORARY TABLE IF NOT EXISTS incoming (
        device text, kind text, polled_us bigint, active_power_w integer,
        apparent_power_va integer, energy_wh bigint, quality text, note text,
        layout integer, vals real[], energy_source text
    ) ON COMMIT DELETE ROWS"""

COPY = "COPY incoming FROM STDIN"

_ESCAPES = str.maketrans(
    {
        "\0": "",
        "\\": r"\\",
        "\n": r"\n",
        "\r": r"\r",
        "\t": r"\t",
        "\b": r"\b",
        "\f": r"\f",
        "\v": r"\v",
    }
)
_REAL_MAX = 3.4e38
_REAL_MIN = 1.2e-38


def copy_text(readings: Iterable[Reading], layouts: Mapping[Layout, int]) -> bytes:
    """Lines for `COPY incoming`; `layouts` has the number of each reading's."""
    return "".join(_line(each, layouts) for each in readings).encode(errors="replace")


def _line(r: Reading, layouts: Mapping[Layout, int]) -> str:
    power_w = r"\N" if r.active_power_w is None else r.active_power_w
    apparent_va = r"\N" if r.apparent_power_va is None else r.apparent_power_va
    energy_wh = r"\N" if r.energy_wh is None else r.energy_wh
    note = r.note and r.note.translate(_ESCAPES)
    named = f"{layouts[r.layout]}\t{_array(r.values)}" if r.layout else "\\N\t\\N"
    return (
        f"{r.device.translate(_ESCAPES)}\t{r.kind}\t{r.polled_at_us}\t{power_w}\t{apparent_va}"
        f"\t{energy_wh}\t{r.quality.value}\t{note}\t{named}\t{r.energy_source}\n"
    )


def _array(values: tuple[float | None, ...]) -> str:
    # Python's own list syntax is nearly Postgres', and made in C.
    return "{" + str(list(values))[1:-1].replace("None", "NULL") + "}"


def storable(reading: Reading) -> tuple[float | None, ...]:
    """The values that fit into a `real`; a float may be too large for it or too small."""
    return tuple(_fitting(each) for each in reading.values)


def _fitting(value: float | None) -> float | None:
    if value is None or not abs(value) <= _REAL_MAX:
        return None
    return value if abs(value) >= _REAL_MIN else 0.0
