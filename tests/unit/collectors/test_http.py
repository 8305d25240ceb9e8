# SPDX-License-Identifier: GPL-2.0-or-later
"""JSON over HTTP from a device that misbehaves."""

import asyncio
import base64
import json
import ssl
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from collectors.transport import NoAnswer
from collectors.transport.http import HttpTarget, HttpTransport
from tests.support.http_device import Answer, Asked, HttpDevice, http_device

Opens = Callable[..., HttpTransport]
GARBAGE = {
    "no JSON": b"<html>it works</html>",
    "nothing": b"",
    "half of it": b'{"PowerWatts": {"Read',
    "a list": b"[1, 2]",
    "no UTF-8": b"\xff\xfe\x00\x01",
    "a nest without end": b"[" * 200_000,
    "a number without end": b'{"Reading": ' + b"9" * 100_000 + b"}",
}


@pytest.fixture
async def device() -> AsyncIterator[HttpDevice]:
    async with http_device() as device:
        yield device


@pytest.fixture
async def opens(device: HttpDevice) -> AsyncIterator[Opens]:
    opened: list[HttpTransport] = []

    def open_(**changes: object) -> HttpTransport:
        target = HttpTarget("127.0.0.1", device.port, "operator", "s3cret!", 0.5, tls=False)
        opened.append(HttpTransport(replace(target, **changes)))  # type: ignore[arg-type]
        return opened[-1]

    yield open_
    for each in opened:
        await each.aclose()


async def test_a_resource_is_read_with_basic_login(device: HttpDevice, opens: Opens) -> None:
    device.answer = lambda asked: Answer(body=b'{"Reading": 344}')

    assert await opens().get("/redfish/v1/Chassis/1U/Power") == {"Reading": 344}

    [asked] = device.asked
    login = base64.b64encode(b"operator:s3cret!").decode()
    assert asked.headers["authorization"] == f"Basic {login}"
    assert asked.headers["accept-encoding"] == "identity"


async def test_a_session_is_opened_once_renewed_when_refused_and_closed(
    device: HttpDevice, opens: Opens
) -> None:
    tokens: list[str] = []

    def answer(asked: Asked) -> Answer:
        if asked.method == "POST":
            assert json.loads(asked.body) == {"UserName": "operator", "Password": "s3cret!"}
            tokens.append(f"t{len(tokens)}")
            session = f"/redfish/v1/SessionService/Sessions/{len(tokens)}"
            return Answer(201, {"X-Auth-Token": tokens[-1], "Location": session})
        good = asked.headers.get("x-auth-token") == tokens[-1]
        return Answer(200 if good else 401)

    device.answer = answer
    transport = opens(session=True)
    await transport.get("/a")
    await transport.get("/a")
    tokens.append("only the device knows")
    await transport.get("/a")
    await transport.aclose()

    assert [each.method for each in device.asked] == [
        *("POST", "GET", "GET"),
        *("GET", "POST", "GET"),
        "DELETE",
    ]
    assert all("authorization" not in each.headers for each in device.asked)
    assert device.asked[-1].path == "/redfish/v1/SessionService/Sessions/3"


@pytest.mark.parametrize("session", [False, True])
async def test_a_refused_login_says_so_and_repeats_no_secret(
    device: HttpDevice, opens: Opens, session: bool
) -> None:
    device.answer = lambda asked: Answer(401)

    with pytest.raises(NoAnswer, match="refuses the login") as refused:
        await opens(session=session).get("/a")

    assert "s3cret" not in str(refused.value)
    assert "s3cret" not in repr(HttpTarget("h", 1, "u", "s3cret!", 1.0))


@pytest.mark.parametrize("body", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_is_no_answer(device: HttpDevice, opens: Opens, body: bytes) -> None:
    device.answer = lambda asked: Answer(body=body)

    with pytest.raises(NoAnswer, match="answered /a with"):
        await opens().get("/a")


async def test_a_number_that_json_does_not_know_is_nothing(
    device: HttpDevice, opens: Opens
) -> None:
    device.answer = lambda asked: Answer(body=b'{"Reading": NaN, "Other": -Infinity}')

    assert await opens().get("/a") == {"Reading": None, "Other": None}


async def test_a_busy_device_is_left_alone_as_long_as_it_asks(
    device: HttpDevice, opens: Opens
) -> None:
    device.answer = lambda asked: Answer(503, {"Retry-After": "1"})
    transport = opens()

    with pytest.raises(NoAnswer, match=r"busy \(HTTP 503\), asked again in 1 s"):
        await transport.get("/a")
    with pytest.raises(NoAnswer, match="left alone"):
        await transport.get("/a")
    assert len(device.asked) == 1

    device.answer = lambda asked: Answer()
    await asyncio.sleep(1.05)
    assert await transport.get("/a") == {}


@pytest.mark.parametrize("words", ["9" * 30, "nan", "inf", "yesterday", "-5", ""])
async def test_an_absurd_wish_to_wait_is_bounded(
    device: HttpDevice, opens: Opens, words: str
) -> None:
    device.answer = lambda asked: Answer(503, {"Retry-After": words})

    with pytest.raises(NoAnswer, match=r"asked again in (300|0) s"):
        await opens().get("/a")


async def test_a_redirect_on_the_device_is_followed(device: HttpDevice, opens: Opens) -> None:
    device.answer = lambda asked: (
        Answer(308, {"Location": "/a/"}) if asked.path == "/a" else Answer(body=b'{"a": 1}')
    )

    assert await opens().get("/a") == {"a": 1}


@pytest.mark.parametrize(
    "there", ["http://192.0.2.1/a", "//192.0.2.1/a", "https://127.0.0.1/a", "http://127.0.0.1:1/a"]
)
async def test_a_redirect_elsewhere_is_refused(
    device: HttpDevice, opens: Opens, there: str
) -> None:
    device.answer = lambda asked: Answer(302, {"Location": there})

    with pytest.raises(NoAnswer, match="another place"):
        await opens().get("/a")

    assert len(device.asked) == 1


async def test_redirects_in_circles_end(device: HttpDevice, opens: Opens) -> None:
    device.answer = lambda asked: Answer(302, {"Location": "/a"})

    with pytest.raises(NoAnswer, match="circles"):
        await opens().get("/a")

    assert len(device.asked) < 6


@pytest.mark.parametrize("told", [True, False], ids=["told", "untold"])
async def test_50_mb_are_not_taken_in(device: HttpDevice, opens: Opens, told: bool) -> None:
    sent = 0

    async def flood(writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        length = b"Content-Length: 50000000\r\n" if told else b""
        writer.write(b"HTTP/1.1 200 -\r\n" + length + b"\r\n")
        for _ in range(500):
            writer.write(b" " * 100_000)
            await writer.drain()
            sent += 100_000

    device.answer = lambda asked: flood
    with pytest.raises(NoAnswer, match="more than 4 MB"):
        await opens(timeout_s=5.0).get("/a")

    assert sent < 20_000_000


async def test_a_compressed_body_is_refused(device: HttpDevice, opens: Opens) -> None:
    device.answer = lambda asked: Answer(headers={"Content-Encoding": "gzip"}, body=b"\x1f\x8b")

    with pytest.raises(NoAnswer, match="compressed"):
        await opens().get("/a")


async def test_a_trickle_does_not_stretch_the_timeout(device: HttpDevice, opens: Opens) -> None:
    async def trickle(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 -\r\nContent-Length: 1000\r\n\r\n")
        for _ in range(50):
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.1)

    device.answer = lambda asked: trickle
    begun = time.monotonic()
    with pytest.raises(NoAnswer, match=r"timed out after 0\.5 s"):
        await opens().get("/a")

    assert time.monotonic() - begun < 1.0


@pytest.mark.parametrize(
    "words", [b"", b"220 mail.example ESMTP\r\n", b"HTTP/1.1 200 -\r\nContent-Length: 9\r\n\r\n{"]
)
async def test_what_is_no_http_is_no_answer_and_is_asked_again(
    device: HttpDevice, opens: Opens, words: bytes
) -> None:
    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(words)

    device.answer = lambda asked: say
    transport = opens()
    with pytest.raises(NoAnswer):
        await transport.get("/a")

    device.answer = lambda asked: Answer()
    assert await transport.get("/a") == {}


async def test_a_closed_port_is_no_answer(opens: Opens) -> None:
    with pytest.raises(NoAnswer, match="connect"):
        await opens(port=1).get("/a")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, and its key in the same file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a device")])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "device.pem"
    path.write_bytes(
        signed.public_bytes(Encoding.PEM)
        + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    return path


async def test_only_a_certificate_that_is_trusted_gets_the_password(certificate: Path) -> None:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    async with http_device(tls) as device:
        device.answer = lambda asked: Answer()
        stranger = HttpTarget("127.0.0.1", device.port, "operator", "s3cret!", 2.0)

        with pytest.raises(NoAnswer, match="certificate"):
            await asked_once(stranger)
        assert device.asked == []

        assert await asked_once(replace(stranger, ca_file=certificate)) == {}
        assert await asked_once(replace(stranger, verify=False)) == {}


async def asked_once(target: HttpTarget) -> dict[str, object]:
    transport = HttpTransport(target)
    try:
        return await transport.get("/a")
    finally:
        await transport.aclose()
