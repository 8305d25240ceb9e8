# SPDX-License-Identifier: GPL-2.0-or-later
"""The control commands: words in, text out.  Anything misspelt names what is allowed."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence

from tests.fleet.layout import Layer
from tests.fleet.plant import Plant
from tests.fleet.units import parse_watts

_LIE_AT_MOST = 2_000_000_000


class BadCommand(Exception):
    """The command cannot be carried out; the message says what can."""


def execute(words: Sequence[str], plant: Plant) -> str:
    name, *arguments = words or [""]
    command = _COMMANDS.get(name)
    if command is None:
        raise BadCommand(f"unknown command {name!r}: allowed are {', '.join(_COMMANDS)}")
    return command(plant, arguments)


def _extra(plant: Plant, arguments: Sequence[str]) -> str:
    rack, text = _exactly(arguments, "extra RACK WATTS, as in `extra r1 15kW`", 2)
    _known("rack", rack, plant.layout.racks)
    try:
        watts = parse_watts(text)
    except ValueError as error:
        raise BadCommand(str(error)) from error
    plant.set_extra(rack, watts)
    return f"{rack} draws {watts:.0f} W more than its nodes"


def _mute(plant: Plant, arguments: Sequence[str]) -> str:
    (device,) = _exactly(arguments, "mute DEVICE, as in `mute r3.B`", 1)
    _known("device", device, plant.layout.devices)
    plant.mute(device)
    return f"{device} does not answer"


def _unmute(plant: Plant, arguments: Sequence[str]) -> str:
    (device,) = _exactly(arguments, "unmute DEVICE, as in `unmute r3.B`", 1)
    _known("device", device, plant.layout.devices)
    plant.unmute(device)
    return f"{device} answers"


def _lie(plant: Plant, arguments: Sequence[str]) -> str:
    device, text = _exactly(arguments, "lie DEVICE WATTS|-1|off, as in `lie r4.A -1`", 2)
    _known("device", device, plant.layout.devices)
    if text == "off":
        plant.stop_lying(device)
        return f"{device} tells the truth"
    value = _lie_value(text)
    plant.lie(device, value)
    return f"{device} reports {'not supported' if value == -1 else f'{value:.0f} W'}"


def _lie_value(text: str) -> float:
    try:
        value = parse_watts(text) if text.endswith("W") else float(text)
    except ValueError:
        value = float("nan")
    if not -_LIE_AT_MOST <= value <= _LIE_AT_MOST:
        raise BadCommand(
            f"{text!r} is no lie: allowed are watts (5000, 5kW), -1 for `not supported`, and off"
        )
    return value


def _reset(plant: Plant, arguments: Sequence[str]) -> str:
    _exactly(arguments, "reset", 0)
    plant.reset()
    return "all devices answer, truthfully; nothing extra is drawn; no power limit is active"


def _reset_max(plant: Plant, arguments: Sequence[str]) -> str:
    _exactly(arguments, "reset-max", 0)
    plant.reset_max()
    return "maxima start again from now"


def _status(plant: Plant, arguments: Sequence[str]) -> str:
    if _wants_json(arguments, "status"):
        return json.dumps(_status_object(plant))
    lines = [f"{'layer':<8}{'draw_w':>10}{'max_draw_w':>12}{'limit_w':>10}"]
    for name, layer in plant.layout.layers.items():
        facts = _layer_object(plant, layer)
        lines.append(
            f"{name:<8}{facts['draw_w']:>10}{facts['max_draw_w']:>12}{facts['limit_w']:>10}"
        )
    lines += [f"extra {rack} {watts:.0f} W" for rack, watts in plant.extra_w.items() if watts]
    lines += [f"mute {device}" for device in sorted(plant.muted)]
    lines += [f"lie {device} {value:g}" for device, value in plant.lies_w.items()]
    return "\n".join(lines)


def _counts(plant: Plant, arguments: Sequence[str]) -> str:
    if _wants_json(arguments, "counts"):
        return json.dumps(plant.answers)
    return "\n".join(f"{device:<10}{count:>10}" for device, count in plant.answers.items())


def _log(plant: Plant, arguments: Sequence[str]) -> str:
    _exactly(arguments, "log", 0)
    return plant.journal.path.read_text(encoding="utf-8").rstrip("\n")


def _status_object(plant: Plant) -> dict[str, object]:
    layers: dict[str, dict[str, object]] = {"rack": {}, "row": {}, "site": {}}
    for name, layer in plant.layout.layers.items():
        layers[layer.kind][name] = _layer_object(plant, layer)
    return {
        "uptime_s": round(plant.uptime_s, 1),
        "racks": layers["rack"],
        "rows": layers["row"],
        "site": layers["site"],
        "pdus": {
            name: {"draw_w": round(watts, 1), "energy_wh": round(plant.energy_wh[name], 1)}
            for name, watts in plant.feed_w.items()
        },
        "nodes": {
            name: {"draw_w": round(watts, 1), "loads_w": plant.loads_w.get(name, {})}
            for name, watts in plant.node_w.items()
        },
        "muted": sorted(plant.muted),
        "lies": plant.lies_w,
        "over_limit": sorted(plant.over_limit),
    }


def _layer_object(plant: Plant, layer: Layer) -> dict[str, object]:
    facts: dict[str, object] = {
        "draw_w": round(plant.draw_w(layer), 1),
        "max_draw_w": round(plant.max_w[layer.name], 1),
        "limit_w": layer.limit_w,
    }
    if layer.kind == "rack":
        facts["extra_w"] = plant.extra_w.get(layer.name, 0.0)
    return facts


def _exactly(arguments: Sequence[str], usage: str, count: int) -> Sequence[str]:
    if len(arguments) != count:
        raise BadCommand(f"{len(arguments)} arguments given: usage is {usage}")
    return arguments


def _known(kind: str, name: str, allowed: Collection[str]) -> None:
    if name not in allowed:
        raise BadCommand(f"unknown {kind} {name!r}: allowed are {', '.join(allowed)}")


def _wants_json(arguments: Sequence[str], command: str) -> bool:
    if list(arguments) not in ([], ["--json"]):
        raise BadCommand(f"unknown argument {arguments[0]!r}: usage is {command} [--json]")
    return bool(arguments)


_COMMANDS: Mapping[str, Callable[[Plant, Sequence[str]], str]] = {
    "extra": _extra,
    "mute": _mute,
    "unmute": _unmute,
    "lie": _lie,
    "reset": _reset,
    "reset-max": _reset_max,
    "status": _status,
    "counts": _counts,
    "log": _log,
}
