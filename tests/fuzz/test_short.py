# SPDX-License-Identifier: GPL-2.0-or-later
"""A short run of the fuzz targets with a fixed seed; `make fuzz` makes the long one."""

import random
from dataclasses import replace

import pytest

from collectors.readings import Quality, Reading
from tests.fuzz.dcmi import fuzz_dcmi
from tests.fuzz.findings import Findings
from tests.fuzz.mutate import mutated
from tests.fuzz.oracle import wrong_with
from tests.fuzz.redfish import fuzz_http, fuzz_redfish, own_trees
from tests.fuzz.seeds import own_seeds
from tests.fuzz.snmp import fuzz_engine, fuzz_reader
from tests.support import ber, ber_agent

SEED = 3


def _without_problems(found: Findings) -> None:
    assert not found.problems, "\n".join(found.problems.values())


def test_mutated_answers_straight_into_the_reader_make_no_bad_reading() -> None:
    found = fuzz_reader(own_seeds(), seed=SEED, first=0, count=1500)

    _without_problems(found)
    assert found.mutated > 1000
    assert found.outcomes["good"] > 100
    assert found.outcomes["implausible"] > 100


# pysnmp's deprecations are not what is looked for here.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("engine", "cases"), [("gufo", 800), ("pysnmp", 120)])
def test_mutated_answers_over_a_socket_make_no_bad_reading(engine: str, cases: int) -> None:
    found = fuzz_engine(engine, own_seeds(), seed=SEED, first=0, count=cases)

    _without_problems(found)
    assert found.mutated > cases / 2
    assert found.outcomes["good"] > cases / 4


def test_mutated_power_readings_of_bmcs_make_no_bad_reading() -> None:
    found = fuzz_dcmi(seed=SEED, first=0, count=1000)

    _without_problems(found)
    assert found.outcomes["good"] > 100
    assert found.outcomes["implausible"] > 100


def test_mutated_redfish_resources_make_no_bad_reading() -> None:
    found = fuzz_redfish(own_trees(), seed=SEED, first=0, count=1000)

    _without_problems(found)
    assert found.mutated > 500
    assert found.outcomes["good"] > 100


def test_mutated_http_answers_make_no_bad_reading() -> None:
    found = fuzz_http(own_trees(), seed=SEED, first=0, count=60)

    _without_problems(found)
    assert found.outcomes["good"] > 10


def test_a_case_is_the_same_again_with_its_seed() -> None:
    device = own_seeds()[0]
    names = b"".join(ber.tlv(0x30, ber.oid(each) + b"\x05\x00") for each in device.order)
    pdu = ber.tlv(ber.GET, b"\x02\x01\x07\x02\x01\x00\x02\x01\x00" + ber.tlv(0x30, names))
    head = ber.integer(1) + ber.tlv(ber.OCTETS, b"public")
    request = ber_agent.parsed(ber.tlv(0x30, head + pdu))
    answer = ber_agent.answer(request, device.order, device.values.get)

    once = [mutated(answer, random.Random(f"9/{nth}")) for nth in range(200)]

    assert once == [mutated(answer, random.Random(f"9/{nth}")) for nth in range(200)]
    assert sum(each != [answer] for each in once) > 180


def test_the_oracle_sees_what_must_not_be_good() -> None:
    good = Reading("r1.A", "pdu", 1_800_000_000_000_000, 1140, 1200, 5, Quality.GOOD)

    assert wrong_with(good, ceiling_w=2000) == ""
    assert wrong_with(good, ceiling_w=1000) == "1140 W is good where 1000 W can pass"
    idle = replace(good, active_power_w=0)
    assert wrong_with(idle, ceiling_w=2000) == ""
    assert wrong_with(idle, ceiling_w=2000, before_w=900) != ""
    assert wrong_with(replace(good, energy_wh=2**63), ceiling_w=2000) != ""
    assert wrong_with(replace(good, note="\0"), ceiling_w=2000) != ""
