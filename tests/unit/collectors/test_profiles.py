# SPDX-License-Identifier: GPL-2.0-or-later
import re
from pathlib import Path

import pytest

from collectors.complaints import BadConfiguration
from collectors.profile import SHIPPED, load_profiles


def test_every_shipped_profile_loads() -> None:
    assert {"apc-rpdu2", "raritan-px3"} <= load_profiles().keys()


def test_every_shipped_profile_can_be_recognised_and_has_something_to_store() -> None:
    for name, profile in load_profiles().items():
        assert profile.sys_object_ids or profile.sys_descr, name
        assert profile.tables or profile.totals.active_power_w, name


def test_no_vendor_is_named_in_python() -> None:
    vendors = {name.split("-")[0] for name in load_profiles()}
    for path in SHIPPED.parent.rglob("*.py"):
        words = set(re.findall(r"[a-z0-9]+", path.read_text().lower()))
        assert not words & vendors, path


def test_a_family_is_recognised_by_whole_numbers_of_its_object_id() -> None:
    profile = load_profiles()["apc-rpdu2"]

    assert profile.recognises("1.3.6.1.4.1.318.1.3.4.6")
    assert profile.recognises(".1.3.6.1.4.1.318.1.3.4.6.1")
    assert not profile.recognises("1.3.6.1.4.1.318.1.3.4.61")


BAD = {
    "an unknown key": ("colour = 1", "odd.toml: colour = 1: no such key"),
    "a leading dot": ('probe = [".1.3"]', "probe.0 = '.1.3'"),
    "a scale below zero": (
        '[[tables]]\nkind = "phase"\n[tables.columns]\npower_w = { oid = "1.3", scale = -1 }',
        "scale = -1: input should be greater than 0",
    ),
    "a kind of row that is none": (
        '[[tables]]\nkind = "fan"\n[tables.columns]\npower_w = { oid = "1.3" }',
        "tables.0.kind = 'fan'",
    ),
    "a value that nobody stores": (
        '[[tables]]\nkind = "phase"\n[tables.columns]\nwarmth = { oid = "1.3" }',
        "warmth",
    ),
    "two sources in one": (
        '[totals]\nactive_power_w = [{ sum = "phase", estimate = "phase" }]',
        "expected one of object, sum, apparent_x_factor, estimate",
    ),
    "a pattern that is none": ('sys_descr = "("', "no regular expression"),
    "an index without a row": (
        '[[tables]]\nkind = "phase"\nindex = "1"\n[tables.columns]\npower_w = { oid = "1.3" }',
        "no group `row`",
    ),
    "names without patterns": (
        '[[tables]]\nkind = "phase"\nnames = "1.3"\n[tables.columns]\npower_w = { oid = "1.3" }',
        "`names` and `match` belong together",
    ),
    "a filter that filters nothing": (
        '[[tables]]\nkind = "phase"\nwhere = { oid = "1.3" }\n'
        '[tables.columns]\npower_w = { oid = "1.3" }',
        "expected one of values, not_values",
    ),
    "no TOML": ("[[", "odd.toml"),
}


@pytest.mark.parametrize(("text", "said"), BAD.values(), ids=BAD.keys())
def test_a_bad_profile_is_refused_with_its_key(tmp_path: Path, text: str, said: str) -> None:
    start = 'description = "x"\nsys_object_ids = ["1.3.6"]\n'
    if "probe" not in text:
        start += 'probe = ["1.3.6.1"]\n'
    (tmp_path / "odd.toml").write_text(start + text)

    with pytest.raises(BadConfiguration) as refused:
        load_profiles(tmp_path)

    assert said in str(refused.value)
