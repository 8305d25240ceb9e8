# SPDX-License-Identifier: GPL-2.0-or-later
"""Logins by group, who is warned about, and that no secret is ever shown."""

import shutil
from pathlib import Path

import pytest

from collectors.devices import Device
from collectors.main import main
from collectors.reach import meter_reader, snmp_target
from collectors.secrets import warnings
from collectors.settings import Settings, load_settings

ETC = Path(__file__).resolve().parents[3] / "etc"
GROUPS = """
[snmp]
community = "lab-community-7"

[snmp.rack1]
community = "rack-community-1"

[snmp3.metering]
auth_protocol = "SHA256"
auth_password = "auth-secret-one"
priv_password = "priv-secret-two"

[ipmi]
user = "poller"
password = "ipmi-secret"

[ipmi.old]
user = "ADMIN"
password = "ADMIN"

[redfish]
user = "poller"
password = "redfish-secret"

[redfish.mock]
user = "root"
password = "calvin"
tls = false
"""
SECRETS = (
    *("lab-community-7", "rack-community-1", "auth-secret-one", "priv-secret-two"),
    *("ipmi-secret", "redfish-secret", "calvin"),
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("inventory.toml", "collectors.toml"):
        shutil.copy(ETC / name, tmp_path / name)
    write(tmp_path, GROUPS)
    return tmp_path


def write(folder: Path, secrets: str) -> None:
    path = folder / "secrets.toml"
    path.write_text(secrets)
    path.chmod(0o600)


def urls(folder: Path, **changes: str) -> None:
    """Gives devices of the lab another URL: r1_A="...", n01="..."."""
    path = folder / "inventory.toml"
    text = path.read_text()
    olds = {"r1_A": "snmp://127.0.1.1", "r1_B": "snmp://127.0.1.2", "n01": "ipmi://127.0.2.1"}
    for name, url in changes.items():
        old = f'"{olds[name]}"'
        assert old in text
        text = text.replace(old, f'"{url}"', 1)
    path.write_text(text)


def device(settings: Settings, name: str) -> Device:
    return next(each for each in settings.devices if each.name == name)


def test_a_url_names_the_entry_that_a_device_is_asked_with(folder: Path) -> None:
    urls(folder, r1_A="snmp3://metering@127.0.1.1", r1_B="snmp://rack1@127.0.1.2:1161")
    urls(folder, n01="ipmi://old@127.0.2.1")
    settings = load_settings(folder)
    secrets = settings.secrets

    v3 = snmp_target(device(settings, "r1.A"), secrets, 1.0)
    group = snmp_target(device(settings, "r1.B"), secrets, 1.0)
    rest = snmp_target(device(settings, "r2.A"), secrets, 1.0)

    assert (v3.version, v3.host, v3.port) == ("3", "127.0.1.1", 161)
    assert v3.user is not None
    assert (v3.user.name, v3.user.auth_protocol, v3.user.priv_protocol) == (
        *("metering", "SHA256"),
        "AES128",
    )
    assert (group.version, group.port, group.community) == ("2c", 1161, "rack-community-1")
    assert rest.community == "lab-community-7"
    assert secrets.login(device(settings, "n01.bmc")).user == "ADMIN"
    assert secrets.login(device(settings, "n02.bmc")).user == "poller"


async def test_redfish_devices_are_meters_and_need_no_profile(folder: Path) -> None:
    urls(folder, r1_A="redfish://127.0.1.1", n01="redfish://mock@127.0.2.1:8000")
    settings = load_settings(folder)

    assert [each.name for each in settings.meters] == ["r1.A", "n01.bmc"]
    assert {each.kind for each in settings.meters} == {"pdu", "bmc"}
    assert (settings.meters[0].port, settings.meters[1].port) == (443, 8000)
    assert "n01.bmc" not in {each.name for each in settings.bmcs}
    for meter in settings.meters:
        closing = meter_reader(meter, settings.secrets, 1.0).close()
        if closing is not None:
            await closing


def test_a_collector_on_a_node_reads_its_gpus_and_nothing_else(folder: Path) -> None:
    with (folder / "collectors.toml").open("a") as file:
        file.write('\n[nvml]\nnode = "n03"\nonly = true\n')

    settings = load_settings(folder)

    assert [(each.name, each.kind, each.scheme) for each in settings.devices] == [
        ("n03.gpu", "gpu", "nvml")
    ]


def test_default_logins_are_warned_about_by_device(folder: Path) -> None:
    urls(folder, r1_A="redfish://mock@127.0.1.1", n01="ipmi://old@127.0.2.1")

    settings = load_settings(folder)

    assert sorted(warnings(settings.devices, settings.secrets)) == [
        "n01.bmc: IPMI with a default password; change it on the BMC",
        "r1.A: Redfish with a default password; change it on the device",
        "r1.A: Redfish without TLS: its password can be read on the wire",
        "r1.B, r2.A, r2.B, r3.A, r3.B, r4.A, r4.B: SNMP v2c: its community can be read on the"
        " wire, and may write where the device allows it; make it read-only there, or use snmp3://",
    ]


def test_the_check_warns_of_the_labs_own_logins(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ETC / "secrets.toml", folder / "secrets.toml")
    (folder / "secrets.toml").chmod(0o600)

    assert main(["--check", str(folder)]) == 0

    said = capsys.readouterr().err
    assert "warning: r1.A, r1.B, r2.A, r2.B, r3.A, r3.B, r4.A, r4.B: SNMP v2c" in said
    assert "and 8 more: IPMI with a default password" in said


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("snmp3://127.0.1.1", "no [snmp3] in secrets.toml for it; write snmp3://NAME@HOST"),
        ("snmp3://nobody@127.0.1.1", "no [snmp3.NAME] in secrets.toml"),
        ("snmp://hunter2@127.0.1.1", "no [snmp.NAME] in secrets.toml"),
        ("snmp://u:hunter2@127.0.1.1", "expected snmp://HOST"),
        ("redfish://hunter2@127.0.1.1", "no [redfish.NAME] in secrets.toml"),
        ("ipmi://127.0.1.1", "expected snmp://HOST"),
    ],
)
def test_a_url_without_its_entry_is_one_line_that_repeats_no_secret(
    folder: Path, capsys: pytest.CaptureFixture[str], url: str, line: str
) -> None:
    urls(folder, r1_A=url)

    assert main(["--check", str(folder)]) == 2

    [said] = capsys.readouterr().err.splitlines()
    assert f"{folder / 'inventory.toml'}: racks.r1.feeds.A.pdu" in said
    assert line in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("secrets", "line"),
    [
        ('[ipmi]\nuser = "u"\n', "ipmi: value error, user and password belong together"),
        ('[ipmi.g]\nuser = "u"\n', "ipmi.g.password: this key is required"),
        ('[snmp]\ncomunity = "hunter2"\n', "snmp.comunity: "),
        ('[snmp3.u]\nauth_password = "short"\npriv_password = "longenough"\n', "snmp3.u.auth_pass"),
        ('[redfish.g]\nuser = "u"\npassword = "hunter2"\nverfy = 1\n', "redfish.g.verfy: no such"),
        ('[telnet]\npassword = "hunter2"\n', "telnet: no such key"),
    ],
)
def test_a_mistake_in_the_secrets_is_named_without_the_secret(
    folder: Path, capsys: pytest.CaptureFixture[str], secrets: str, line: str
) -> None:
    write(folder, secrets)

    assert main(["--check", str(folder)]) == 2

    said = capsys.readouterr().err
    assert f"{folder / 'secrets.toml'}: {line}" in said
    assert "hunter2" not in said
    assert "short" not in said.replace("shorter", "")


def test_nothing_that_is_logged_as_an_object_shows_a_secret(folder: Path) -> None:
    urls(folder, r1_A="snmp3://metering@127.0.1.1", n01="redfish://127.0.2.1")
    settings = load_settings(folder)
    secrets = settings.secrets

    shown = repr(settings) + str(secrets)
    shown += "".join(repr(snmp_target(each, secrets, 1.0)) for each in settings.pdus)
    shown += "".join(repr(secrets.login(each)) for each in settings.bmcs)
    shown += "".join(repr(secrets.redfish_secret(each)) for each in settings.meters)

    assert [each for each in SECRETS if each in shown] == []
