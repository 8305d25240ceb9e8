# SPDX-License-Identifier: GPL-2.0-or-later
"""The SNMP objects of each PDU type: OID -> its value for a reading (None: no such instance).

OIDs, types and scales as walked from real devices: an APC AP8959EU3 (PowerNet-MIB, rPDU2) and a
Raritan PX3-5493 (PDU2-MIB); here with three phases and without the outlets.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from pysnmp.proto.api import v2c

from tests.fleet.layout import Pdu
from tests.fleet.plant import POWER_FACTOR, Reading

Oid = tuple[int, ...]
Value = Callable[[Reading], object | None]

PHASES = 3


@dataclass(frozen=True, slots=True)
class Objects:
    values: Mapping[Oid, Value]
    active_power: Oid


def objects_of(pdu: Pdu) -> Objects:
    return _PROFILES[pdu.profile](pdu)


def oid(text: str) -> Oid:
    return tuple(int(part) for part in text.split("."))


def _integer(measure: Callable[[Reading], float]) -> Value:
    """Cut off, never rounded up: the fleet never reports more than there is."""
    return lambda reading: v2c.Integer32(int(measure(reading)))


def _gauge(measure: Callable[[Reading], float]) -> Value:
    return lambda reading: v2c.Gauge32(int(measure(reading)))


def _text(text: str) -> Value:
    value = v2c.OctetString(text)
    return lambda reading: value


def _fixed(number: int) -> Value:
    value = v2c.Integer32(number)
    return lambda reading: value


def _system(description: str, object_id: str, pdu: Pdu) -> dict[Oid, Value]:
    system = oid("1.3.6.1.2.1.1")
    identity = v2c.ObjectIdentifier(oid(object_id))
    return {
        (*system, 1, 0): _text(description),
        (*system, 2, 0): lambda reading: identity,
        (*system, 3, 0): lambda reading: v2c.TimeTicks(int(reading.uptime_s * 100) % 2**32),
        (*system, 4, 0): _text(""),
        (*system, 5, 0): _text(pdu.name),
        (*system, 6, 0): _text(f"rack {pdu.rack}, feed {pdu.feed}"),
    }


# --- APC rPDU2 -----------------------------------------------------------------------------------

_APC = oid("1.3.6.1.4.1.318.1.1")
_RPDU2_DEVICE = (*_APC, 26, 4, 3, 1)
_RPDU2_PHASE = (*_APC, 26, 6, 3, 1)
_RPDU_IDENT = (*_APC, 12, 1)
_RPDU_LOAD = (*_APC, 12, 2, 3, 1, 1)


def _apc(pdu: Pdu) -> Objects:
    serial = f"5A1638E{int.from_bytes(pdu.name.encode(), 'big') % 100_000:05d}"
    description = (
        "APC Web/SNMP Management Card (MB:v4.1.0 PF:v6.4.0 PN:apc_hw05_aos_640.bin AF1:v6.4.0 "
        f"AN1:apc_hw05_rpdu2g_640.bin MN:AP8959EU3 HR:02 SN: {serial} MD:09/20/2016) "
    )
    values = _system(description, "1.3.6.1.4.1.318.1.3.4.6", pdu)
    values |= _apc_device(pdu)
    for phase in range(1, PHASES + 1):
        values |= _apc_phase(phase)
    values |= {
        (*_RPDU_IDENT, 5, 0): _text("AP8959EU3"),
        (*_RPDU_IDENT, 6, 0): _text(serial),
        (*_RPDU_IDENT, 15, 0): _fixed(-1),
        (*_RPDU_IDENT, 16, 0): _integer(lambda reading: reading.claimed_w),
    }
    return Objects(values, (*_RPDU2_DEVICE, 5, 1))


def _apc_device(pdu: Pdu) -> dict[Oid, Value]:
    def column(number: int) -> Oid:
        return (*_RPDU2_DEVICE, number, 1)

    return {
        column(1): _fixed(1),
        column(2): _fixed(1),
        column(3): _text(pdu.name),
        column(4): _integer(_load_state),
        column(5): _integer(_hundredths_kw),
        column(9): _integer(lambda reading: reading.energy_wh / 100),  # tenths of kWh
        column(12): _fixed(1),
        column(13): _fixed(1),
        column(14): _fixed(1),
        column(16): _integer(lambda reading: reading.apparent_va / 10),
        column(17): _fixed(round(POWER_FACTOR * 100)),
        column(18): _fixed(1),
    }


def _apc_phase(phase: int) -> dict[Oid, Value]:
    def column(number: int) -> Oid:
        return (*_RPDU2_PHASE, number, phase)

    return {
        column(1): _fixed(phase),
        column(2): _fixed(1),
        column(3): _fixed(phase),
        column(4): _integer(_load_state),
        column(5): _integer(lambda reading: _phase_current_a(reading) * 10),
        column(6): _integer(lambda reading: reading.voltage_v),
        column(7): _integer(lambda reading: reading.active_w / PHASES / 10),
        column(8): _integer(lambda reading: reading.apparent_va / PHASES / 10),
        column(9): _fixed(round(POWER_FACTOR * 100)),
        (*_RPDU_LOAD, 2, phase): _gauge(lambda reading: _phase_current_a(reading) * 10),
    }


def _hundredths_kw(reading: Reading) -> float:
    return reading.claimed_w / 10 if reading.supported else -1


def _phase_current_a(reading: Reading) -> float:
    return reading.apparent_va / PHASES / reading.voltage_v


def _load_state(reading: Reading) -> int:
    """1 low, 2 normal, 3 near overload, 4 overload."""
    share = _phase_current_a(reading) / reading.rating_a
    return 4 if share > 1 else 3 if share > 0.8 else 2


# --- Raritan PX3 ---------------------------------------------------------------------------------

_RARITAN = oid("1.3.6.1.4.1.13742.6")
_PDU_CONFIG = (*_RARITAN, 3, 2, 1, 1)
_INLET_CONFIG = (*_RARITAN, 3, 3, 3, 1)
_SENSOR_CONFIG = (*_RARITAN, 3, 3, 4, 1)
_MEASUREMENT = (*_RARITAN, 5, 2, 3, 1)
_ACTIVE_POWER = 5


@dataclass(frozen=True, slots=True)
class _Sensor:
    number: int  # SensorTypeEnumeration
    units: int  # SensorUnitsEnumeration
    digits: int
    measure: Callable[[Reading], float]


# One inlet as if single-phase, like the recorded one: its A x V are its VA.
_SENSORS = (
    _Sensor(1, 2, 3, lambda reading: reading.apparent_va / reading.voltage_v),
    _Sensor(4, 1, 0, lambda reading: reading.voltage_v),
    _Sensor(_ACTIVE_POWER, 3, 0, lambda reading: reading.claimed_w),
    _Sensor(6, 4, 0, lambda reading: reading.apparent_va),
    _Sensor(7, -1, 2, lambda reading: POWER_FACTOR),
    _Sensor(8, 5, 0, lambda reading: reading.energy_wh),
    _Sensor(23, 8, 1, lambda reading: 50.0),
)


def _raritan(pdu: Pdu) -> Objects:
    description = "Raritan PDU, MD:PX3-5493U-K2 HW:0x10 FW:4.2.0.5-50274"
    values = _system(description, "1.3.6.1.4.1.13742.6", pdu)
    values |= {
        (*_PDU_CONFIG, 3, 1): _text("PX3-5493U-K2"),
        (*_INLET_CONFIG, 2, 1, 1): _text("I1"),
        (*_INLET_CONFIG, 6, 1, 1): _text("200-240V"),
        (*_INLET_CONFIG, 7, 1, 1): _text(f"{pdu.rating_a:.0f}A"),
    }
    for sensor in _SENSORS:
        values |= _raritan_sensor(sensor)
    return Objects(values, (*_MEASUREMENT, 4, 1, 1, _ACTIVE_POWER))


def _raritan_sensor(sensor: _Sensor) -> dict[Oid, Value]:
    index = (1, 1, sensor.number)
    columns: dict[Oid, Value] = {
        (*_SENSOR_CONFIG, 4, *index): _fixed(1),
        (*_SENSOR_CONFIG, 6, *index): _fixed(sensor.units),
        (*_SENSOR_CONFIG, 7, *index): lambda reading: v2c.Unsigned32(sensor.digits),
        (*_MEASUREMENT, 2, *index): _fixed(1),  # available
        (*_MEASUREMENT, 3, *index): _fixed(4),  # normal
        (*_MEASUREMENT, 4, *index): _gauge(lambda reading: _raw(sensor, reading)),
        (*_MEASUREMENT, 5, *index): _gauge(lambda reading: datetime.now(UTC).timestamp()),
        (*_MEASUREMENT, 6, *index): _integer(lambda reading: _signed(_raw(sensor, reading))),
    }
    if sensor.number != _ACTIVE_POWER:
        return columns
    return {name: _if_supported(value) for name, value in columns.items()}


def _if_supported(value: Value) -> Value:
    """Raritan's `not supported` is a missing row, as the power factor of a PX2 is missing."""
    return lambda reading: value(reading) if reading.supported else None


def _raw(sensor: _Sensor, reading: Reading) -> float:
    # Rounded first: 0.98 x 100 is 97.99... in floating point.  A gauge knows nothing below zero.
    return max(0.0, round(sensor.measure(reading) * 10**sensor.digits, 6))


def _signed(raw: float) -> float:
    return min(raw, 2**31 - 1)


_PROFILES: Mapping[str, Callable[[Pdu], Objects]] = {"apc-rpdu2": _apc, "raritan-px3": _raritan}
