# SPDX-License-Identifier: GPL-2.0-or-later
"""What the collector tells Prometheus of itself, and nothing else does the counting."""

import logging
import threading
import time
from collections.abc import Callable
from wsgiref.simple_server import WSGIServer

from prometheus_client import Counter, Gauge, Histogram, start_http_server

from collectors.devices import Device
from collectors.readings import Kind, Quality, Reading

log = logging.getLogger("powercollectord")

_POLL_BUCKETS_S = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10)
_LAG_BUCKETS_S = (0.05, 0.1, 0.2, 0.3, 0.5, 1, 1.5, 3, 10, 60, 600, 3600)

_POLL = Histogram(
    "powercollector_poll_seconds", "From asking to the answer", ["kind"], buckets=_POLL_BUCKETS_S
)
_POLLS = Counter("powercollector_polls_total", "Polls, answered or not", ["kind"])
_ANSWERS = Counter("powercollector_answers_total", "Answers by their quality", ["kind", "quality"])
_FAILURES = Counter(
    "powercollector_failures_total", "Polls without an answer, by reason", ["kind", "reason"]
)
_LAG = Histogram(
    "powercollector_commit_lag_seconds", "From an answer to its commit", buckets=_LAG_BUCKETS_S
)
_STORED = Counter("powercollector_stored_total", "Records that Postgres has taken")
_BACKLOG = Gauge("powercollector_spool_backlog_bytes", "In the spool and not in Postgres yet")
_AWAY = Gauge("powercollector_postgres_away", "1 while Postgres does not take readings")
_SHARES = Gauge("powercollector_shares_held", "Shares of the inventory that this collector polls")
_OTHERS = Gauge("powercollector_other_collectors", "Other collectors alive at the last renewal")
_UP = Gauge("powercollector_device_up", "1: answers, 0: silent", ["device", "kind"])
_GOOD = Gauge("powercollector_device_good", "1: last answer good or estimated", ["device", "kind"])
_ROLLED = Counter("powercollector_rolled_up_total", "Minutes and hours rolled up", ["level"])


def serve(listen: str) -> tuple[WSGIServer, threading.Thread] | None:
    """Answer scrapes in a thread; a port in use costs the metrics, not the readings."""
    host, _, port = listen.rpartition(":")
    try:
        return start_http_server(int(port), host.strip("[]"))
    except OSError as why:
        log.warning("metrics: not served on %s: %s", listen, why.strerror or why)
        return None


class DeviceMeter:
    """One device's series. Only devices that this collector polls have any: forgotten with them."""

    def __init__(self, device: Device) -> None:
        self._kind: Kind = device.kind
        self._labels = (device.name, device.kind)
        self._polls = _POLLS.labels(device.kind)
        self._answers = {each: _ANSWERS.labels(device.kind, each.value) for each in Quality}
        self._took = _POLL.labels(device.kind)
        self._up, self._good = _UP.labels(*self._labels), _GOOD.labels(*self._labels)

    def answered(self, reading: Reading, took_s: float | None = None) -> None:
        self._polls.inc()
        self._answers[reading.quality].inc()
        if took_s is not None:
            self._took.observe(took_s)
        self._up.set(1)
        self._good.set(reading.quality in (Quality.GOOD, Quality.ESTIMATED))

    def missed(self, reason: str) -> None:
        self._polls.inc()
        _FAILURES.labels(self._kind, _reason(reason)).inc()

    def silent(self) -> None:
        self._up.set(0)
        self._good.set(0)

    def forget(self) -> None:
        for gauge in (_UP, _GOOD):
            gauge.remove(*self._labels)


def stored(records: int, oldest_us: int | None) -> None:
    """A batch is committed; its oldest reading waited longest."""
    _STORED.inc(records)
    if oldest_us is not None:
        _LAG.observe(time.time() - oldest_us / 1e6)


def postgres_away(away: bool) -> None:
    _AWAY.set(away)


def shares(held: int, others: int) -> None:
    _SHARES.set(held)
    _OTHERS.set(others)


def rolled_up(level: str, count: int) -> None:
    _ROLLED.labels(level).inc(count)


def spool_backlog(ask: Callable[[], int]) -> None:
    """Asked at each scrape."""
    _BACKLOG.set_function(ask)


def _reason(text: str) -> str:
    """A handful of words: a label for every error text would never stop growing."""
    for word in ("timed out", "login failed", "session lost", "error", "garbage"):
        if word in text:
            return word.replace(" ", "_")
    return "other"
