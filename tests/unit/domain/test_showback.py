# SPDX-License-Identifier: GPL-2.0-or-later
"""Showback adds up to the PDUs, whatever the jobs, gaps and meters do."""

from __future__ import annotations

import random
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from broker.domain.showback import (
    IDLE,
    OTHERS,
    Metered,
    NodeMeter,
    RackMeters,
    ReservedPower,
    Run,
    Samples,
    Tariff,
    apportion,
    bill,
    meter_rack,
    promised_wms,
)

SECOND = 1000
HOUR = 3_600 * SECOND
GAP = 30 * SECOND
TARIFF = Tariff(per_kwh=Decimal("0.30"), reserved_per_kwh=Decimal("0.10"), currency="EUR")


def steady(power_w: int, start: int = 0, end: int = HOUR, every: int = 10 * SECOND) -> Samples:
    return [(at, power_w) for at in range(start, end + 1, every)]


def a_rack(pdus: dict[str, Samples], bmcs: dict[str, Samples]) -> RackMeters:
    return RackMeters("r1", pdus, [NodeMeter(name, 1000, each) for name, each in bmcs.items()])


def a_run(job_id: int = 1, account: str = "ml", **changes: Any) -> Run:
    usual: dict[str, Any] = {
        "nodes": ("n01",), "start_ms": 0, "end_ms": HOUR, "charge_w": 5000,
    }  # fmt: skip
    return Run(job_id=job_id, account=account, **{**usual, **changes})


def meter(rack: RackMeters, runs: Sequence[Run], start: int = 0, end: int = HOUR) -> Metered:
    return meter_rack(rack, runs, start_ms=start, end_ms=end, max_gap_ms=GAP)


def test_a_node_is_billed_in_proportion_to_its_bmc() -> None:
    rack = a_rack(
        {"A": steady(2200), "B": steady(2200)}, {"n01": steady(3000), "n02": steady(1000)}
    )

    found = meter(rack, [a_run()])

    # 4,400 W at the PDUs for an hour; the BMCs say 3 : 1.
    assert found.energy_j == {"ml": 3300 * 3600, IDLE: 1100 * 3600}
    assert found.unmetered_ms == {"A": 0, "B": 0}


def test_slices_are_cut_where_a_job_ends() -> None:
    first, second = a_run(1, "ml", end_ms=HOUR // 4), a_run(2, "bio", start_ms=HOUR // 2)

    found = meter(a_rack({"A": steady(4000)}, {"n01": steady(4000)}), [first, second])

    assert found.energy_j == {"ml": 3_600_000, IDLE: 3_600_000, "bio": 7_200_000}


def test_of_two_jobs_on_a_node_the_later_one_pays_while_the_other_completes() -> None:
    early, late = a_run(1, "ml", end_ms=HOUR // 2 + 5000), a_run(2, "bio", start_ms=HOUR // 2)

    found = meter(a_rack({"A": steady(1000)}, {"n01": steady(900)}), [early, late])

    assert found.energy_j == {"ml": 1_800_000, "bio": 1_800_000}


def test_without_any_bmc_the_charge_and_the_idle_draw_decide() -> None:
    rack = a_rack({"A": steady(6000)}, {"n01": [], "n02": []})

    assert meter(rack, [a_run(charge_w=5000)]).energy_j == {"ml": 5000 * 3600, IDLE: 1000 * 3600}


def test_a_rack_without_nodes_is_idle() -> None:
    assert meter(a_rack({"A": steady(100)}, {}), []).energy_j == {IDLE: 360_000}


def test_a_ramp_is_a_straight_line_between_samples() -> None:
    rack = a_rack({"A": [(0, 0), (20 * SECOND, 2000)]}, {"n01": []})

    assert meter(rack, [], 0, 10 * SECOND).energy_j == {IDLE: 5_000}  # half of 1 kW for 10 s


def test_a_silent_pdu_is_reported_and_not_guessed() -> None:
    rack = a_rack({"A": [(0, 1000), (600 * SECOND, 1000)], "B": []}, {"n01": []})

    found = meter(rack, [], 0, 600 * SECOND)

    assert found.energy_j == {IDLE: 30_000}  # the last reading holds for 30 s
    assert found.unmetered_ms == {"A": 570 * SECOND, "B": 600 * SECOND}


def test_hours_join_without_a_seam() -> None:
    samples = steady(1234, start=3 * SECOND, end=2 * HOUR + 3 * SECOND, every=7 * SECOND)
    rack = a_rack({"A": samples}, {"n01": samples})
    runs = [a_run(start_ms=HOUR - 4500, end_ms=HOUR + 4500)]

    whole = meter(rack, runs, 0, 2 * HOUR)
    halves = meter(rack, runs, 0, HOUR)
    halves.add(meter(rack, runs, HOUR, 2 * HOUR))

    assert sum(halves.energy_j.values()) == pytest.approx(sum(whole.energy_j.values()), abs=1)
    assert halves.energy_j["ml"] == pytest.approx(1234 * 9, abs=1)
    assert halves.unmetered_ms == whole.unmetered_ms == {"A": 3 * SECOND}


WINDOW = 120 * SECOND
series = st.lists(
    st.tuples(st.integers(-40_000, WINDOW + 40_000), st.integers(-5, 40_000)), max_size=25,
    unique_by=lambda sample: sample[0],
)  # fmt: skip
runs_of_a_rack = st.lists(
    st.builds(
        lambda job, account, nodes, start, length, charge: Run(
            job, account, tuple(sorted(nodes)), start, start + length, charge
        ),
        st.integers(1, 5),
        st.sampled_from(["ml", "bio"]),
        st.sets(st.sampled_from(["n01", "n02", "n03", "elsewhere"]), min_size=1),
        st.integers(-WINDOW, WINDOW),
        st.integers(0, 2 * WINDOW),
        st.integers(0, 40_000),
    ),
    max_size=6,
    unique_by=lambda run: (run.start_ms, run.job_id),
)
racks = st.builds(
    lambda pdus, bmcs: a_rack(
        {f"pdu{i}": each for i, each in enumerate(pdus)},
        {f"n0{i + 1}": each for i, each in enumerate(bmcs)},
    ),
    st.lists(series, min_size=1, max_size=2),
    st.lists(series, max_size=3),
)


def integral_j(samples: Samples) -> Fraction:
    """Energy in the window by the rule of the module's first lines, written another way."""
    total = Fraction(0)
    ordered = sorted((at, max(0, w)) for at, w in samples)
    for index, (at, watt) in enumerate(ordered):
        after = ordered[index + 1] if index + 1 < len(ordered) else (at + GAP + 1, 0)
        bridged = after[0] - at <= GAP
        end, slope = (
            (after[0], Fraction(after[1] - watt, after[0] - at)) if bridged else (at + GAP, 0)
        )
        low, high = max(at, 0), min(end, WINDOW)
        if low < high:
            middle_w = watt + slope * (Fraction(low + high, 2) - at)
            total += middle_w * (high - low) / 1000
    return total


@given(rack=racks, runs=runs_of_a_rack)
def test_the_lines_always_add_up_to_the_pdus(rack: RackMeters, runs: list[Run]) -> None:
    found = meter(rack, runs, 0, WINDOW)

    total = sum(found.energy_j.values())
    expected = sum(integral_j(each) for each in rack.pdus.values())
    assert abs(total - expected) <= len(rack.pdus)  # a joule of rounding per PDU
    assert total == sum(meter(rack, [], 0, WINDOW).energy_j.values())  # jobs only divide it
    assert min(found.energy_j.values()) >= 0
    assert all(0 <= ms <= WINDOW for ms in found.unmetered_ms.values())


@given(rack=racks, runs=runs_of_a_rack, seed=st.integers(0, 1000))
def test_the_order_of_what_was_recorded_does_not_matter(
    rack: RackMeters, runs: list[Run], seed: int
) -> None:
    dice = random.Random(seed)

    def shuffled(found: Sequence[Any]) -> list[Any]:
        return dice.sample(list(found), len(found))

    other = RackMeters(
        rack.name,
        {name: shuffled(rack.pdus[name]) for name in shuffled(list(rack.pdus))},
        [NodeMeter(n.name, n.idle_w, shuffled(n.samples)) for n in shuffled(rack.nodes)],
    )

    assert meter(other, shuffled(runs), 0, WINDOW) == meter(rack, runs, 0, WINDOW)


@given(
    total=st.integers(0, 10**12),
    weights=st.dictionaries(st.text("abc", min_size=1), st.integers(0, 10**9), min_size=1),
)
def test_shares_add_up_and_are_fair_to_one_unit(total: int, weights: dict[str, int]) -> None:
    shares = apportion(total, weights)

    assert sum(shares.values()) == total
    whole = sum(weights.values())
    if whole:
        assert all(abs(shares[n] - Fraction(total * w, whole)) < 1 for n, w in weights.items())


def test_a_job_is_promised_its_charge_while_it_runs() -> None:
    runs = [a_run(charge_w=3000, start_ms=-HOUR, end_ms=HOUR // 2)]

    assert promised_wms(runs, [], start_ms=0, end_ms=HOUR) == {"ml": 3000 * HOUR // 2}


def test_a_reservation_promises_what_its_jobs_leave() -> None:
    launch = ReservedPower("launch", "ml", power_w=20_000, start_ms=0, end_ms=2 * HOUR)
    inside = a_run(charge_w=8000, end_ms=HOUR // 2, reservation="pw-launch")
    outside = a_run(2, "bio", charge_w=1000)

    promised = promised_wms([inside, outside], [launch], start_ms=0, end_ms=HOUR)

    # Used or left, the owner's promise is the reserved 20 kW for the hour.
    assert promised == {"ml": 20_000 * HOUR, "bio": 1000 * HOUR}


def test_the_bill() -> None:
    metered = Metered(energy_j={"ml": 2 * 3_600_000, IDLE: 3_600_000})

    lines = bill(metered, {"ml": 5000 * HOUR}, {"ml": 3}, TARIFF)

    assert [(x.account, x.jobs, str(x.metered_kwh), str(x.reserved_kwh), str(x.unused_kwh),
             str(x.cost)) for x in lines] == [
        ("ml", 3, "2.000", "5.000", "3.000", "0.90"),
        (IDLE, 0, "1.000", "0.000", "0.000", "0.30"),
        ("Total", 3, "3.000", "5.000", "3.000", "1.20"),
    ]  # fmt: skip


def test_accounts_that_nobody_asked_for_are_one_line_and_the_sum_still_holds() -> None:
    metered = Metered(energy_j={"ml": 3_600_000, "bio": 1_800_000, "geo": 1_800_000, IDLE: 900})

    lines = bill(metered, {}, {"bio": 1, "geo": 1}, TARIFF, accounts=["ml"])

    assert [each.account for each in lines] == ["ml", IDLE, OTHERS, "Total"]
    assert lines[2].jobs == 2
    assert lines[-1].metered_kwh == bill(metered, {}, {}, TARIFF)[-1].metered_kwh


@given(
    st.dictionaries(st.sampled_from(["ml", "bio", "geo", IDLE]), st.integers(0, 10**10), min_size=1)
)
def test_the_printed_kwh_add_up_to_the_last_digit(energy_j: dict[str, int]) -> None:
    *lines, total = bill(Metered(energy_j=energy_j), {}, {}, TARIFF)

    assert sum(each.metered_kwh for each in lines) == total.metered_kwh
    assert abs(total.metered_kwh - Decimal(sum(energy_j.values())) / 3_600_000) <= Decimal("0.0005")
