# SPDX-License-Identifier: GPL-2.0-or-later
"""`python -m tests.fleet serve|extra|mute|unmute|lie|reset|reset-max|status|counts|log`."""

import argparse
import asyncio
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from tests.fleet import control
from tests.fleet.units import parse_watts

CONTROL = Path("/run/fleet/control.sock")
LOG = Path("/run/fleet/fleet.jsonl")
INSTALLED_INVENTORY = Path("/etc/power-broker/inventory.toml")
OWN_INVENTORY = Path(__file__).parents[2] / "etc" / "inventory.toml"
USAGE = """\
fleet serve [--inventory PATH] [--seed N] [--control PATH] [--log PATH]
            [--snmp-port N] [--bmc-port N] [--ceiling 12kW]
fleet [--control PATH] extra RACK WATTS | mute DEVICE | unmute DEVICE | lie DEVICE WATTS|-1|off
                       | reset | reset-max | status [--json] | counts [--json] | log
racks as in r1, devices as in r3.B or n05.bmc, watts as in 15kW or 300W"""


class _OneLine(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(control.BAD, f"fleet: {message}\n")


def main(arguments: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help"):
        print(USAGE)
        return control.OK if words else control.BAD
    if words[0] == "serve":
        return _serve(words[1:])
    return _ask(words)


def _ask(words: list[str]) -> int:
    path = CONTROL
    if "--control" in words[:-1]:
        at = words.index("--control")
        path = Path(words[at + 1])
        del words[at : at + 2]
    code, text = control.ask(path, words)
    if code == control.OK:
        print(text)
    else:
        print(f"fleet: {text}", file=sys.stderr)
    return code


def _serve(words: list[str]) -> int:
    # Here, so that the short commands do not wait for the protocol libraries.
    from tests.fleet.layout import BadInventory
    from tests.fleet.serve import CannotServe, Options, serve

    found = _serve_parser().parse_args(words)
    options = Options(
        inventory=found.inventory,
        control=found.control,
        log=found.log,
        seed=found.seed,
        snmp_port=found.snmp_port,
        bmc_port=found.bmc_port,
        ceiling_w=found.ceiling,
    )
    try:
        asyncio.run(serve(options))
    except (BadInventory, CannotServe, OSError) as error:
        print(f"fleet: {error}", file=sys.stderr)
        return control.BAD
    return control.OK


def _serve_parser() -> argparse.ArgumentParser:
    parser = _OneLine(prog="fleet serve")
    inventory = INSTALLED_INVENTORY if INSTALLED_INVENTORY.exists() else OWN_INVENTORY
    parser.add_argument("--inventory", type=Path, default=inventory)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--control", type=Path, default=CONTROL)
    parser.add_argument("--log", type=Path, default=LOG)
    parser.add_argument("--snmp-port", type=int, default=161)
    parser.add_argument("--bmc-port", type=int, default=623)
    parser.add_argument("--ceiling", type=parse_watts, default=math.inf)
    return parser
