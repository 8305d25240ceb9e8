# SPDX-License-Identifier: GPL-2.0-or-later
import socket
import time
import urllib.request

import pytest
from prometheus_client import REGISTRY

from collectors import metrics
from collectors.devices import Bmc
from collectors.readings import Quality, Reading

DEVICE = Bmc("n77.bmc", "bmc", "127.0.0.1", 623, 1_000)
SERIES = {"device": "n77.bmc", "kind": "bmc"}


def value(name: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(name, labels)


def a_reading(quality: Quality) -> Reading:
    return Reading("n77.bmc", "bmc", 1, 100, None, None, quality)


def test_a_device_is_up_good_or_silent_and_then_forgotten() -> None:
    meter = metrics.DeviceMeter(DEVICE)
    meter.answered(a_reading(Quality.GOOD), 0.02)
    assert value("powercollector_device_up", **SERIES) == 1
    assert value("powercollector_device_good", **SERIES) == 1

    meter.answered(a_reading(Quality.IMPLAUSIBLE))
    assert value("powercollector_device_up", **SERIES) == 1
    assert value("powercollector_device_good", **SERIES) == 0

    meter.silent()
    assert value("powercollector_device_up", **SERIES) == 0

    meter.forget()
    assert value("powercollector_device_up", **SERIES) is None


def test_failures_have_few_reasons_whatever_is_said() -> None:
    meter = metrics.DeviceMeter(DEVICE)
    before = value("powercollector_failures_total", kind="bmc", reason="timed_out") or 0
    for number in range(50):
        meter.missed(f"timed out after {number} s")
        meter.missed(f"something odd, number {number}")

    assert value("powercollector_failures_total", kind="bmc", reason="timed_out") == before + 50
    assert len(metrics._FAILURES.collect()[0].samples) < 20
    meter.forget()


def test_the_lag_is_that_of_the_oldest_answer_of_a_batch() -> None:
    before = value("powercollector_commit_lag_seconds_sum") or 0
    metrics.stored(3, time.time_ns() // 1000 - 2_000_000)

    assert value("powercollector_commit_lag_seconds_sum") == pytest.approx(before + 2, abs=0.5)


def test_metrics_are_scraped_and_a_port_in_use_is_no_end(caplog: pytest.LogCaptureFixture) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    metrics.spool_backlog(lambda: 4711)
    server, thread = metrics.serve(f"127.0.0.1:{port}") or (None, None)
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            text = answer.read().decode()
        assert "powercollector_spool_backlog_bytes 4711.0" in text
        assert "powercollector_poll_seconds_bucket" in text
        metrics.serve(f"127.0.0.1:{port}")
        assert "not served on" in caplog.text
    finally:
        if server is not None and thread is not None:
            server.shutdown()
            server.server_close()
            thread.join()
