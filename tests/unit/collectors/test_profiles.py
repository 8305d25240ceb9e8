# SPDX-License-Identifier: GPL-2.0-or-later
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from collectors.complaints import BadConfiguration
from collectors.devices import Pdu
from collectors.pdu import PduReader
from collectors.profile import SHIPPED, load_profiles
from collectors.readings import Quality


class Recorded:
    """A recorded walk (snmprec: OID|type|value) that answers as the device did."""

    def __init__(self, path: Path) -> None:
        lines = [line.split("|", 2) for line in path.read_text(errors="replace").splitlines()]
        self.values: dict[str, object] = {
            oid.lstrip("."): _typed(tag, value) for oid, tag, value in lines
        }

    async def get(self, oids: Sequence[str]) -> Mapping[str, object]:
        return {oid: self.values[oid] for oid in oids if oid in self.values}

    def close(self) -> None:
        """There is no socket."""


def _typed(tag: str, value: str) -> object:
    if tag in {"2", "65", "66", "67", "70"}:
        return int(value)
    return value if tag == "6" else value.encode()


def a_pdu(profile: str) -> Pdu:
    return Pdu("r1.A", "pdu", "127.0.1.1", 161, 66_240, profile, load_profiles()[profile])


def test_every_shipped_profile_loads() -> None:
    assert {"apc-rpdu2", "raritan-px3"} <= load_profiles().keys()


def test_no_vendor_is_named_in_python() -> None:
    vendors = {name.split("-")[0] for name in load_profiles()}
    for path in SHIPPED.parent.rglob("*.py"):
        words = path.read_text().lower()
        assert not [vendor for vendor in vendors if vendor in words], path


def test_a_family_is_recognised_by_whole_numbers_of_its_object_id() -> None:
    profile = load_profiles()["apc-rpdu2"]

    assert profile.recognises("1.3.6.1.4.1.318.1.3.4.6")
    assert profile.recognises("1.3.6.1.4.1.318.1.3.4.6.1")
    assert not profile.recognises("1.3.6.1.4.1.318.1.3.4.61")


def test_a_bad_profile_is_refused_with_its_key(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text(
        'description = "x"\nsys_object_ids = ["1.3.6"]\ncolour = 1\n'
        '[active_power_w]\noid = ".1.3"\nscale = -1\n'
    )

    with pytest.raises(BadConfiguration) as refused:
        load_profiles(tmp_path)

    lines = str(refused.value)
    assert "odd.toml: colour = 1: no such key" in lines
    assert "active_power_w.oid = '.1.3'" in lines
    assert "active_power_w.scale = -1: input should be greater than 0" in lines


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("recording", "profile"),
    [("apc_ap8959eu3", "apc-rpdu2"), ("raritan-pdu_px3", "raritan-px3")],
)
async def test_a_recorded_device_reads_as_its_mib_says(
    shared_data: Path, recording: str, profile: str
) -> None:
    folder = shared_data / "data" / "pdu"
    expected = json.loads((folder / f"{recording}.expected.json").read_text())["mib_decoded"]
    by_oid = {each["oid"]: (each["value"], each["unit"]) for each in expected}
    objects = load_profiles()[profile].objects()

    reading = await PduReader(a_pdu(profile), Recorded(folder / f"{recording}.snmprec")).read()

    assert reading.quality is Quality.GOOD
    for name, each in objects.items():
        value, unit = by_oid[each.oid]
        in_our_unit = value * 1000 if unit.startswith("k") else value
        assert getattr(reading, name) == pytest.approx(in_our_unit), name


@pytest.mark.shared_data
async def test_a_device_that_does_not_measure_power_says_so(shared_data: Path) -> None:
    recorded = Recorded(shared_data / "data" / "pdu" / "apc_ap7900b.snmprec")

    reading = await PduReader(a_pdu("apc-rpdu2"), recorded).read()

    assert reading.quality is Quality.NOT_SUPPORTED
    assert reading.active_power_w is None
    assert "-1" in reading.note
