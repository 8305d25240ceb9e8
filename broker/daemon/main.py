# SPDX-License-Identifier: GPL-2.0-or-later
"""powerbrokerd: the command."""

from __future__ import annotations

import argparse
import importlib.metadata
import logging
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from apscheduler.schedulers.background import BackgroundScheduler

from broker.config.settings import DEFAULT_DIR, Settings, load_settings
from broker.daemon.schedule import every
from broker.daemon.wiring import wire
from broker.domain.errors import BrokerError
from migrations import upgrade

_HELP = """\
powerbrokerd watches what racks draw and what Slurm runs, and keeps every rack, row and the site
within its safe limit: it compiles power tokens for Slurm, fences nodes, sheds jobs in the order of
their tiers, holds power reservations and tells the job_submit hook what still fits.

files:
  inventory.toml   racks, feeds, PDUs, nodes: the power graph
  policy.toml      lanes, tiers, control, tariff
  broker.toml      mode (off, observe, enforce), paths, database

exit status:
  0  ended by a signal, or --check or --migrate went well
  1  something it needs is not there
  2  a configuration file cannot be used; every mistake is one line
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        level=logging.DEBUG if options.verbose else logging.INFO,
        format="%(levelname)s %(message)s",
        stream=sys.stderr,
    )
    # Its own lines about every job it runs or skips would drown ours.
    logging.getLogger("apscheduler").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        settings = load_settings(options.check or options.config)
        if options.check:
            return _checked(settings, options.check)
        if options.migrate:
            upgrade(settings.broker.database_url)
            return 0
        return run(settings)
    except BrokerError as error:
        for line in str(error).splitlines():
            print(f"powerbrokerd: {line}", file=sys.stderr)
        if error.hint:
            print(f"powerbrokerd: hint: {error.hint}", file=sys.stderr)
        return error.exit_code


def run(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    daemon = wire(settings)
    scheduler = BackgroundScheduler(timezone="UTC")
    every(scheduler, settings.broker.cycle_s, "cycle", daemon.lead)
    with daemon.server:
        scheduler.start()
        stop.wait()
        # A cycle that has begun is finished, so that its intents are confirmed.
        scheduler.shutdown(wait=True)
    daemon.close()
    return 0


def _checked(settings: Settings, directory: Path) -> int:
    graph = settings.graph
    print(
        f"{directory}: ok: {len(graph.racks)} racks, {len(graph.nodes)} nodes, site"
        f" {graph.site.name} safe at {graph.site.safe_w} W, mode {settings.broker.mode}"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="powerbrokerd",
        description=_HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--config",
        type=Path,
        default=DEFAULT_DIR,
        metavar="DIR",
        help="folder of the configuration (default: %(default)s)",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--check", type=Path, metavar="DIR", help="check the files there and end")
    what.add_argument(
        "--migrate", action="store_true", help="bring the database up to date and end"
    )
    parser.add_argument("--verbose", action="store_true", help="log every cycle's sentence")
    parser.add_argument("--version", action="version", version=f"powerbrokerd {_version()}")
    return parser


def _version() -> str:
    try:
        return importlib.metadata.version("slurm-power-broker")
    except importlib.metadata.PackageNotFoundError:
        return "from a checkout that is not installed"


if __name__ == "__main__":
    sys.exit(main())
