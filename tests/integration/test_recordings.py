# SPDX-License-Identifier: GPL-2.0-or-later
"""36 recorded devices: each is read as its MIB says, or refused.

Beside each recording lie two opinions: values decoded by hand from the MIB, and what another
monitoring system reads. Where they differ, the MIB's counts; every such place is listed here.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from collectors import probe
from collectors.devices import Pdu
from collectors.discovery import Discovered, UnknownDevice, discover
from collectors.pdu import PduReader, reading_of
from collectors.profile import load_profiles
from collectors.profile_check import Recording
from collectors.profile_plan import value_of
from collectors.readings import Quality, Reading
from tests.support.snmp_agents import snmpd, snmpsim

pytestmark = pytest.mark.shared_data
PROFILES = load_profiles()
GOOD, ESTIMATED, NONE = Quality.GOOD, Quality.ESTIMATED, Quality.NOT_SUPPORTED


@dataclass(frozen=True)
class Read:
    """What a recording says in sum: watts, volt-amperes, kWh, and rows of each kind."""

    profile: str
    w: int | None
    va: int | None = None
    kwh: float | None = None
    quality: Quality = GOOD
    rows: str = ""  #: inlets phases branches outlets sensors


READ = {
    "apc-epdu_epdu1116s": Read("apc-epdu", 0, 0, 332.241, rows="0 3 0 0 0"),
    # The new tables answer -1 for power; the old tree has it.
    "apc_ap7900b": Read("apc-rpdu2", 312, rows="1 1 0 8 0"),
    "apc_ap8959eu3": Read("apc-rpdu2", 270, 300, 1967.7, rows="0 1 0 24 0"),
    "apc_isx-pdu": Read("apc-isx", 19_200, 18_600, rows="0 3 6 0 0"),
    "atenpdu": Read("aten", 760, None, 6576.258, rows="0 0 0 16 0"),
    # Its "power" is volt-amperes, and there is no power factor.
    "chatsworth-pdu": Read("chatsworth", None, 3793, quality=NONE, rows="0 0 3 60 0"),
    "cyberpower": Read("cyberpower", 500, rows="1 1 0 0 1"),
    "dell-rpdu": Read("dell-rpdu", 3810, 3956, 63013.9, rows="0 1 0 24 0"),
    "digipower": Read("digipower", 0, 0, quality=ESTIMATED, rows="1 0 0 0 0"),
    "e3meter": Read("e3meter", 657, 699, 441.481, rows="0 3 0 0 1"),
    "eatonpdu_2": Read("eaton-epdu", 1584, 1673, 8185.493, rows="1 1 0 24 0"),
    # The first generation, its load on the other feed: outlets only.
    "eatonpdu_dbq": Read("eaton-managed", 0, 0, rows="0 0 0 20 0"),
    "fs-net-pdu": Read("fs-net-pdu", 1374, 1374, quality=ESTIMATED, rows="1 0 0 0 0"),
    "hpe-mapdu_pdu2": Read("hpe-pdu2", 97, 130, rows="1 1 0 8 0"),
    "hpe-pdumm": Read("hpe-pdumm", 2724, 3251, rows="2 0 12 0 0"),
    "iboot_pdu8-2n15": Read("iboot", 1229, 1229, quality=ESTIMATED, rows="2 0 0 8 0"),
    "ict-pdu": Read("ict", 9, quality=ESTIMATED, rows="1 0 12 0 0"),
    "liebert_mph2rg": Read("liebert-mph", 514, 551, 2045.0, rows="1 1 1 16 0"),
    # A gateway whose nodes measure temperature and humidity only.
    "packetpower-eg": Read("packetpower", None, quality=NONE, rows="0 0 0 0 10"),
    "panduit": Read("panduit-g5", 956, 1022, 7405.276, rows="1 0 6 0 0"),
    "panduit_g5-p32g13m": Read("panduit-g5", 0, rows="0 0 0 1 0"),
    "planet-pdu": Read("planet", 6, 0, rows="1 0 0 8 1"),
    "poweralert_pdu": Read("poweralert", 207, 207, rows="1 1 2 24 0"),
    # Active power of the inlet; the outlets of this firmware have volt-amperes only.
    "raritan-pdu": Read("raritan-px1", 580, 692, rows="1 1 0 12 2"),
    "raritan-pdu_px2": Read("raritan-px3", 138, 158, rows="1 0 0 12 0"),
    "raritan-pdu_px3": Read("raritan-px3", 1665, 1751, 74_057.676, rows="1 0 2 24 2"),
    "rittal-cmc-iii-pu_pdu-controller": Read("rittal-cmc3", 2742, 2904, 2641.8, rows="1 3 0 30 0"),
    "rnx-updu_rn3214": Read("rnx-updu", 868, 1195, 12718.314, rows="1 3 6 48 0"),
    # 70 VA x 0.4594 and 70 VA x 0.4706, not 140 W.
    "schleifenbauer": Read("schleifenbauer", 65, 140, 132.0, rows="0 3 0 0 0"),
    # Volts and amperes of two towers, of three infeeds: an estimate.
    "sentry3": Read("sentry3", 1791, 1791, quality=ESTIMATED, rows="0 2 0 0 2"),
    "sentry3_switched": Read("sentry3", 2360, 2360, quality=ESTIMATED, rows="0 3 0 30 0"),
    # Two cords, the second of a linked unit.
    "sentry4": Read("sentry4", 2966, 3119, 3459.6, rows="2 6 6 0 0"),
    "vertiv-pdu_mg02e4w1": Read("vertiv-geist", 1017, 1067, 8483.906, rows="0 3 9 0 0"),
}
REFUSED = {
    "apc_masterswitch2": "switches outlets and measures nothing",
    "panduit-eagle": "a monitor of temperature and humidity",
    "sinetica": "the controller of a UPS, not a PDU",
}

#: Where the hand-decoded opinion is not what is stored, and why. OID prefix under 1.3.6.1.4.1.
MIB_DIFFERS = {
    "13742.6.5.4.3.1.3.": "states become 1 and 0: 7 is on",
    "1718.3.2.5.1.6.": "the scale column says Fahrenheit: 68.0 F are 20.0 C",
}
MIB_NOT_READ = {
    "318.1.1.12.": "the old tree repeats what the new tables say",
    "318.1.1.26.4.3.1.4.": "load states are alarms of the PDU, not readings",
    "13742.6.5.4.3.1.4.": "the frequency of each outlet is the inlet's",
    "1718.3.2.2.1.10.": "ratings are read at discovery, not polled",
    "1718.4.1.9.3.1.1.": "-41.0 is below the sensor's range: none is plugged in",
}
#: The same for the other system's opinion.
NMS_DIFFERS = {
    "13742.6.": "leaves power factors at 98 where the digits column says 0.98",
}
NMS_NOT_READ = {
    "318.1.1.12.2.3.1.1.2.": "the old tree's current of the phase",
    "318.1.1.15.3.4.2.": "neutral current",
    "318.1.1.15.3.1.4.1.2.": "line-to-line voltages of the transformer's input",
    "318.1.1.15.3.4.14.1.2.": "line-to-line voltages; the phases' own are read",
    "30932.1.10.1.3.110.1.9.": "VAh, which it calls kWh",
    "3808.1.1.1.2.2.3.": "a battery's temperature",
    "232.165.7.2.1.1.8.0.1": "asks at an index that is not there",
    "476.1.42.3.8.30.20.1.70.": "neutral current",
    "476.1.42.3.8.30.20.1.95.": "a power factor of 0 while 514 W flow",
    "476.1.42.3.8.40.20.1.150.": "amperes left before an alarm, not a current",
    "476.1.42.3.8.50.20.1.55.": "whole volts of what another column tells in tenths",
    "476.1.42.3.8.50.20.1.60.": "tenths of amperes of what another tells in hundredths",
    "33688.4.1.1.12.": "the 3 V of a sensor's own battery",
    "13742.4.1.3.1.5.": "the processor's temperature",
    "2606.7.4.2.2.1.11.2.": "neutral current, reactive power, VAh and a second counter",
}
_ELECTRIC = frozenset(
    {"power", "power_consumed", "current", "voltage", "power_factor", "temperature", "humidity"}
)
#: What it files under "power" is volt-amperes; each of these stands in a VA column here.
VA_CALLED_POWER = (
    "318.1.1.15.3.4.14.1.6.",
    "318.1.1.15.3.4.4.",
    "13742.4.1.2.2.1.8.",
    "31034.12.1.1.2.6.1.1.9.",
    "30932.1.10.1.3.110.1.6.",
    "30932.1.10.1.4.10.1.8.",
    "476.1.42.3.8.30.20.1.90.",
    "476.1.42.3.8.50.20.1.70.",
    "2606.7.4.2.2.1.11.",
)


@pytest.fixture
def folder(shared_data: Path) -> Path:
    return shared_data / "data" / "pdu"


def test_every_recording_is_either_read_or_refused(folder: Path) -> None:
    recorded = {each.stem for each in folder.glob("*.snmprec")}

    assert recorded == READ.keys() | REFUSED.keys()
    assert len(recorded) == 36


@pytest.mark.parametrize("name", READ)
async def test_the_totals_and_the_rows_of(folder: Path, name: str) -> None:
    found = await _discovered(folder, name)

    _assert_reads(name, found, _reading(found))


@pytest.mark.parametrize("name", READ)
async def test_what_the_mib_says_of(folder: Path, name: str) -> None:
    ours = _values(await _discovered(folder, name))
    for each in _expected(folder, name)["mib_decoded"]:
        oid, value = each["oid"], each["value"]
        if each["unit"] == "Wh" and value is not None:
            value /= 1000
        if oid not in ours:
            assert value is None or _listed(oid, MIB_NOT_READ), (oid, each)
        elif not _listed(oid, MIB_DIFFERS):
            assert ours[oid][1] == pytest.approx(value, abs=1e-6), (oid, each)


@pytest.mark.parametrize("name", READ)
async def test_what_the_other_system_says_of(folder: Path, name: str) -> None:
    ours = _values(await _discovered(folder, name))
    for each in _expected(folder, name)["librenms_sensors"]:
        oid = each["oid"].lstrip(".")
        if each["cls"] not in _ELECTRIC:
            continue
        if oid not in ours:
            assert _listed(oid, NMS_NOT_READ), (oid, each)
            continue
        measure, value = ours[oid]
        assert (each["cls"] == "power" and measure == "apparent_power_va") is (
            each["cls"] == "power" and _listed_prefix(oid, VA_CALLED_POWER, measure)
        ), (oid, measure)
        if not (_listed(oid, NMS_DIFFERS) and each["cls"] == "power_factor"):
            assert value == pytest.approx(each["value"], rel=2e-3, abs=2e-3), (oid, each)


@pytest.mark.parametrize("name", REFUSED)
async def test_what_is_no_metered_pdu_is_refused(folder: Path, name: str) -> None:
    with pytest.raises(UnknownDevice):
        await _discovered(folder, name)


@pytest.mark.parametrize("name", READ)
async def test_a_poll_reads_what_discovery_read(folder: Path, name: str) -> None:
    recording = _recording(folder, name)
    reader = PduReader(Pdu("r1.A", "pdu", "127.0.0.1", 161, 10_000_000), recording)
    expected = READ[name]

    first, second = await reader.read(), await reader.read()

    assert (first.active_power_w, first.apparent_power_va) == (expected.w, expected.va)
    assert (second.active_power_w, second.quality) == (expected.w, expected.quality)
    assert len(first.layout) == len(first.values)


async def test_a_device_with_a_large_tree_costs_few_requests(folder: Path) -> None:
    recording = _recording(folder, "raritan-pdu_px3")
    base = "1.3.6.1.4.1.13742.6.99"
    recording.values |= {f"{base}.{n}": n for n in range(20_000)}
    recording.sort()

    await discover(recording, PROFILES)

    assert recording.requests < 30


SAMPLE = (
    "apc_ap8959eu3",
    "chatsworth-pdu",
    "eatonpdu_2",
    "hpe-pdumm",
    "ict-pdu",
    "raritan-pdu_px3",
    "rittal-cmc-iii-pu_pdu-controller",
    "schleifenbauer",
    "sentry4",
)


def test_a_sample_served_by_snmpsim_is_probed_over_the_network(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = (*SAMPLE, "panduit-eagle")
    records = {each: (folder / f"{each}.snmprec").read_text(errors="replace") for each in names}
    with snmpsim(tmp_path, records) as agent:
        for name in SAMPLE:
            url = f"snmp://{name}@127.0.0.1:{agent.port}"
            assert probe.main([url, "--json"]) == 0, capsys.readouterr().err
            _assert_probed(name, json.loads(capsys.readouterr().out))
        assert probe.main([f"snmp://panduit-eagle@127.0.0.1:{agent.port}"]) == probe.UNKNOWN
    said = capsys.readouterr()
    assert "1.3.6.1.4.1.3711.24" in said.out
    assert "no profile fits" in said.err
    assert "panduit-eagle" not in said.err  # a community is a secret


@pytest.mark.snmpd
@pytest.mark.parametrize("name", READ)
def test_a_recording_served_by_snmpd_is_probed_over_the_network(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with snmpd(tmp_path, _snmpd_lines(folder / f"{name}.snmprec")) as agent:
        status = probe.main([f"snmp://public@127.0.0.1:{agent.port}", "--json"])

    assert status == 0, capsys.readouterr().err
    _assert_probed(name, json.loads(capsys.readouterr().out))


# --- help ----------------------------------------------------------------------------------------


def _recording(folder: Path, name: str) -> Recording:
    return Recording.of(folder / f"{name}.snmprec")


async def _discovered(folder: Path, name: str) -> Discovered:
    return await discover(_recording(folder, name), PROFILES)


def _expected(folder: Path, name: str) -> dict[str, Any]:
    expected: dict[str, Any] = json.loads((folder / f"{name}.expected.json").read_text())
    return expected


def _reading(found: Discovered) -> Reading:
    return reading_of(found.plan, found.answer, name="x", ceiling_w=10_000_000)


def _assert_reads(name: str, found: Discovered, reading: Reading) -> None:
    expected, plan = READ[name], found.plan
    kinds = ("inlet", "phase", "branch", "outlet", "sensor")
    counted = " ".join(str(sum(row.kind == kind for row in plan.rows)) for kind in kinds)
    assert plan.profile == expected.profile
    assert (reading.active_power_w, reading.apparent_power_va) == (expected.w, expected.va)
    assert reading.energy_wh == (None if expected.kwh is None else round(expected.kwh * 1000))
    assert (reading.quality, counted) == (expected.quality, expected.rows)


def _assert_probed(name: str, shown: dict[str, Any]) -> None:
    expected = READ[name]
    assert shown["profile"] == expected.profile
    assert shown["active_power_w"] == expected.w
    assert shown["apparent_power_va"] == expected.va
    assert shown["energy_kwh"] == expected.kwh
    assert shown["quality"] == expected.quality.value
    lists = ("inlets", "phases", "branches", "outlets", "sensors")
    assert " ".join(str(len(shown[each])) for each in lists) == expected.rows


def _values(found: Discovered) -> dict[str, tuple[str, float | None]]:
    """What is read of each object, with what it is taken for."""
    plan, answer = found.plan, found.answer
    values: dict[str, tuple[str, float | None]] = {}
    totals = {
        "power_w": plan.power,
        "apparent_power_va": plan.apparent,
        "power_factor": plan.factor,
        "energy_kwh": plan.energy,
    }
    for measure, total in totals.items():
        for term in total.terms if total and total.measured else ():
            if len(term) == 1:
                values[term[0].oid] = (measure, value_of(term[0], answer))
    for row in plan.rows:
        values |= {i.oid: (measure, value_of(i, answer)) for measure, i in row.items.items()}
    return values


def _listed(oid: str, reasons: dict[str, str]) -> bool:
    return any(oid.startswith(f"1.3.6.1.4.1.{prefix}") for prefix in reasons)


def _listed_prefix(oid: str, prefixes: tuple[str, ...], measure: str) -> bool:
    listed = any(oid.startswith(f"1.3.6.1.4.1.{prefix}") for prefix in prefixes)
    # A variable list holds all kinds in one column.
    return listed and (measure == "apparent_power_va" or not oid.startswith("1.3.6.1.4.1.2606."))


def _snmpd_lines(path: Path) -> str:
    """A recording as configuration of Debian's agent, each object overridden."""
    kinds = {"2": "integer", "65": "counter", "66": "uinteger"}
    lines = []
    for line in path.read_text(errors="replace").splitlines():
        oid, tag, value = line.split("|", 2)
        if tag == "70" and int(value) < 2**32:
            tag = "65"  # snmpd overrides no 64-bit counters
        oid = oid.lstrip(".")
        if oid == "1.3.6.1.2.1.1.2.0":
            lines.append(f"sysObjectID {value.lstrip('.')}")
        elif oid == "1.3.6.1.2.1.1.1.0":
            lines.append(f"sysDescr {value or '-'}")
        elif oid.startswith("1.3.6.1.4.1.") and tag in kinds:
            lines.append(f"override {oid} {kinds[tag]} {value}")
        elif oid.startswith("1.3.6.1.4.1.") and tag == "4" and re.fullmatch(r"[\w :.-]+", value):
            lines.append(f'override {oid} octet_str "{value}"')
    return "\n".join(lines) + "\n"
