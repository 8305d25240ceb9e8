# SPDX-License-Identifier: GPL-2.0-or-later
"""powercollectord: polls the PDUs and BMCs of an inventory into Postgres."""

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from collectors.collect import collect
from collectors.complaints import BadConfiguration
from collectors.secrets import warnings
from collectors.settings import Settings, load_settings

DEFAULT_CONFIG = Path("/etc/power-broker")
BAD_CONFIGURATION = 2
_COMMANDS = {"probe": "collectors.probe", "profile": "collectors.profile_check"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run or check; exit status 2 with one line per complaint for a bad configuration."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words and words[0] in _COMMANDS:
        # Imported only when asked for: the daemon needs neither.
        command = importlib.import_module(_COMMANDS[words[0]])
        status: int = command.main(words[1:])
        return status
    asked = _parser().parse_args(words)
    try:
        settings = load_settings(asked.check or asked.config)
    except BadConfiguration as why:
        for complaint in why.complaints:
            print(f"powercollectord: {complaint}", file=sys.stderr)
        return BAD_CONFIGURATION
    if asked.check:
        for each in warnings(settings.devices, settings.secrets):
            print(f"powercollectord: warning: {each}", file=sys.stderr)
        print(_summary(settings))
        return 0
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s", stream=sys.stderr)
    try:
        collect(settings)
    except OSError as why:
        print(f"powercollectord: {why.filename or 'cannot start'}: {why.strerror}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="powercollectord",
        description=__doc__,
        epilog="powercollectord probe URL and powercollectord profile check FILE: see their --help",
    )
    parser.add_argument(
        "--config", type=Path, metavar="DIR", default=DEFAULT_CONFIG, help="default: %(default)s"
    )
    parser.add_argument("--check", type=Path, metavar="DIR", help="check a configuration and exit")
    return parser


def _summary(settings: Settings) -> str:
    profiles = len({each.profile_name for each in settings.pdus})
    return (
        f"ok: {len(settings.pdus)} PDUs of {profiles} profiles, {len(settings.bmcs)} BMCs,"
        f" every {settings.polling.interval_s:g} s"
    )


if __name__ == "__main__":
    sys.exit(main())
