# SPDX-License-Identifier: GPL-2.0-or-later
"""Real power traces, as they are and with one lie in a hundred: false alarms and detections.

Watts of whole servers each second (MLPerf Inference 1.1, calibrated analyser), of nodes each
minute (RAPL of Emmy) and of GPUs each 0.1 s (V100). Run with -s to see the figures.
"""

import csv
import gzip
import os
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import pytest

from collectors.plausibility import History, Limits, judge
from collectors.readings import Quality, Reading

TRACES = Path(os.environ.get("SHARED_DATA", "../shared")) / "data" / "traces"
pytestmark = [
    pytest.mark.shared_data,
    pytest.mark.skipif(not TRACES.is_dir(), reason=f"no traces in {TRACES}"),
]
SHARE_OF_LIES = 0.01
PHASE_V = 230.0
LAYOUT = tuple(f"phase.L{n}.{what}" for n in (1, 2, 3) for what in ("voltage_v", "current_a"))


@dataclass
class Trace:
    name: str
    interval_s: float
    watts: list[int]

    @cached_property
    def counter_wh(self) -> list[int]:
        return [int(each * self.interval_s / 3600) for each in accumulate(self.watts)]

    @property
    def limits(self) -> Limits:
        """A feed that carries what the trace shows at most, and a fifth more."""
        continuous_w = int(max(self.watts) * 1.2)
        return Limits(int(continuous_w * 1.5), continuous_w, int(self.interval_s * 1e6))


def _columns(name: str) -> Iterator[dict[str, str]]:
    with gzip.open(TRACES / name, "rt") as file:
        yield from csv.DictReader(file)


def _mlperf() -> Iterator[Trace]:
    found = defaultdict(list)
    for row in _columns("power_mlperf11_1hz.csv.gz"):
        found[row["trace_id"]].append(round(float(row["watts"])))
    for name, watts in found.items():
        yield Trace(name, 1.0, watts)


def _some() -> list[Trace]:
    """Every third, of all machines."""
    return list(_mlperf())[::3]


def _emmy() -> Iterator[Trace]:
    found = defaultdict(list)
    for row in _columns("power_emmy_job1_32nodes_60s.csv.gz"):
        for name, value in row.items():
            if name != "t_s" and value:
                found[name].append(round(float(value)))
    for name, watts in found.items():
        yield Trace(name, 60.0, watts)


def _v100() -> Iterator[Trace]:
    found = defaultdict(list)
    for row in _columns("power_v100_capping_100ms.csv.gz"):
        found[row["budget_w"], row["gpu_index"]].append(round(float(row["power_w"])))
    for (budget_w, index), watts in found.items():
        yield Trace(f"{budget_w} W gpu {index}", 0.1, watts)


KINDS = {"mlperf 1 s": _mlperf, "emmy 60 s": _emmy, "v100 0.1 s": _v100}


def _reading(trace: Trace, nth: int, power_w: int, true_w: int, *, metered: bool) -> Reading:
    """With ``metered`` the device tells honest volts, amperes and a counter beside its watts."""
    amps = round(true_w / 0.95 / 3 / PHASE_V, 2)
    return Reading(
        trace.name,
        "pdu",
        1_795_000_000_000_000 + int(nth * trace.interval_s * 1e6),
        power_w,
        None,
        trace.counter_wh[nth] if metered else None,
        Quality.GOOD,
        layout=LAYOUT if metered else (),
        values=(PHASE_V, amps) * 3 if metered else (),
    )


def _alarms(trace: Trace, told: list[int], *, metered: bool) -> list[bool]:
    """Which polls were not believed."""
    history, found = History(), []
    for nth, (power_w, true_w) in enumerate(zip(told, trace.watts, strict=True)):
        reading = _reading(trace, nth, power_w, max(0, true_w), metered=metered)
        reading, history = judge(history, reading, limits=trace.limits)
        found.append(reading.quality is Quality.IMPLAUSIBLE)
    return found


# What a lying meter tells instead of the truth, for one poll.
LIES: dict[str, Callable[[int, Trace, random.Random], int]] = {
    "negative": lambda w, t, rng: -rng.randint(1, 1_000),
    "zero": lambda w, t, rng: 0,
    "all ones, 31 bits": lambda w, t, rng: 2**31 - 1,
    "all ones, 16 bits": lambda w, t, rng: 2**16 - 1,
    "beyond the breaker": lambda w, t, rng: int(t.limits.ceiling_w * (1 + rng.random())),
    "ten times": lambda w, t, rng: w * 10,
    "a tenth": lambda w, t, rng: w // 10,
    "a hundredth": lambda w, t, rng: w // 100,
    "a thousandth": lambda w, t, rng: w // 1_000,
    "any number": lambda w, t, rng: rng.randint(0, 2 * t.limits.ceiling_w),
}


def _with_lies(trace: Trace, kind: str, rng: random.Random) -> tuple[list[int], set[int]]:
    told, where = list(trace.watts), set()
    for nth in range(30, len(told)):
        true_w = told[nth]
        # A tenth of next to nothing is next to nothing.
        if rng.random() < SHARE_OF_LIES and true_w >= 100:
            said = LIES[kind](true_w, trace, rng)
            if abs(said - true_w) > 0.5 * true_w:
                told[nth], where = said, where | {nth}
    return told, where


@pytest.mark.parametrize("metered", [False, True], ids=["W only", "W, V, A and Wh"])
@pytest.mark.parametrize("traces", KINDS.values(), ids=KINDS.keys())
def test_the_truth_is_believed(
    traces: Callable[[], Iterator[Trace]], metered: bool, request: pytest.FixtureRequest
) -> None:
    polls = false = real = 0
    for trace in traces():
        for power_w, alarm in zip(
            trace.watts, _alarms(trace, trace.watts, metered=metered), strict=True
        ):
            polls += power_w >= 0
            false += alarm and power_w >= 0
            real += alarm and power_w < 0
    print(
        f"\n{request.node.callspec.id}: {false} false alarms in {polls:,} true polls"
        f" ({false / polls:.5%}); {real} real errors of the analyser found"
    )
    assert false <= 0.0002 * polls
    assert real == sum(w < 0 for trace in traces() for w in trace.watts)


# Lowest share of lies found: by the watts alone, and with volts, amperes and a counter.
# A tenth or another possible number, told once, is what jobs that end look like: watts alone
# cannot tell, so it is the amperes or (in the broker) the BMCs that do.
LEAST_FOUND = {
    "negative": (1.0, 1.0),
    "zero": (1.0, 1.0),
    "all ones, 31 bits": (1.0, 1.0),
    "all ones, 16 bits": (1.0, 1.0),
    "beyond the breaker": (1.0, 1.0),
    "ten times": (0.5, 0.95),
    "a tenth": (0.0, 0.5),
    "a hundredth": (0.5, 0.9),
    "a thousandth": (0.9, 0.9),
    "any number": (0.4, 0.5),
}


@pytest.mark.parametrize("kind", LIES)
def test_lies_are_found(kind: str) -> None:
    shares = []
    for metered in (False, True):
        rng = random.Random(f"{kind} {metered}")
        lies = found = false = polls = 0
        for trace in _some():
            told, where = _with_lies(trace, kind, rng)
            alarms = _alarms(trace, told, metered=metered)
            lies += len(where)
            found += sum(alarms[nth] for nth in where)
            honest = [n for n in range(len(told)) if n not in where and trace.watts[n] >= 0]
            polls += len(honest)
            false += sum(alarms[nth] for nth in honest)
        print(
            f"\n{kind}{', V A Wh too' if metered else ', W only'}: {found} of {lies} found"
            f" ({found / lies:.1%}), {false} false alarms in {polls:,} ({false / polls:.4%})"
        )
        assert lies > 100
        assert false <= 0.001 * polls
        shares.append(found / lies)
    assert all(share >= least for share, least in zip(shares, LEAST_FOUND[kind], strict=True))


def test_a_meter_that_sticks_for_a_minute_is_found_in_it() -> None:
    """Another in a hundred polls, in spells of 60: the alarm comes within the spell."""
    for metered in (False, True):
        rng = random.Random(f"stuck {metered}")
        spells = found = false = polls = 0
        for trace in _some():
            told, starts = list(trace.watts), []
            for start in range(240, len(told) - 120, 60):
                if rng.random() < 60 * SHARE_OF_LIES / 2 and told[start] >= 100:
                    told[start : start + 60] = [told[start]] * 60
                    starts.append(start)
            alarms = _alarms(trace, told, metered=metered)
            spells += len(starts)
            found += sum(any(alarms[start : start + 60]) for start in starts)
            lying = {nth for start in starts for nth in range(start, start + 60)}
            honest = [n for n in range(len(told)) if n not in lying and trace.watts[n] >= 0]
            polls += len(honest)
            # The first honest poll after a spell may repeat the stuck value by chance.
            false += sum(alarms[nth] for nth in honest)
        print(
            f"\nstuck{', V A Wh too' if metered else ', W only'}: {found} of {spells} spells found"
            f" ({found / spells:.1%}), {false} false alarms in {polls:,} ({false / polls:.4%})"
        )
        assert spells > 40
        assert found >= 0.6 * spells
        assert false <= 0.001 * polls


@pytest.mark.parametrize("factor", [0.001, 0.01, 0.1, 10, 100])
def test_a_unit_that_changes_with_the_firmware_is_found(factor: float) -> None:
    """After the reboot that brought it, by the watts alone, and until the end."""
    missed = polls = 0
    for trace in _some():
        half = len(trace.watts) // 2
        history, limits = History(), trace.limits
        for nth, true_w in enumerate(trace.watts):
            changed = nth >= half
            told = int(true_w * factor) if changed else true_w
            reading, history = judge(
                history,
                _reading(trace, nth, told, 0, metered=False),
                limits=limits,
                up_time=100 * (nth - half + 30 if changed else nth + 10_000),
            )
            if changed and true_w >= 0:
                polls += 1
                missed += reading.quality is not Quality.IMPLAUSIBLE
    print(f"\nfactor {factor} after a reboot: {missed} of {polls:,} polls believed")
    assert missed <= 0.02 * polls
