# SPDX-License-Identifier: GPL-2.0-or-later
"""Vendors as data: a profile says how a PDU is recognised, what to ask it and what that means.

An OID in a profile is an object's: a table's column, or a scalar without its `.0`. Which rows a
device has is found out at discovery, never written down.
"""

import re
import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from collectors.complaints import BadConfiguration, Complaint, complaints_of

SHIPPED = Path(__file__).parent / "profiles"

Oid = Annotated[str, Field(pattern=r"^[0-2](\.\d+)+$")]
Kind = Literal["inlet", "phase", "branch", "outlet", "sensor"]
KINDS: tuple[Kind, ...] = ("inlet", "phase", "branch", "outlet", "sensor")
#: What a row may show; the unit is in the name. `rating_a` is read at discovery, never polled.
Measure = Literal[
    "power_w",
    "current_a",
    "voltage_v",
    "apparent_power_va",
    "power_factor",
    "energy_kwh",
    "frequency_hz",
    "on",
    "breaker_closed",
    "temperature_c",
    "humidity_percent",
    "rating_a",
]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Column(_Entry):
    """One object and how its raw value becomes our unit."""

    oid: Oid = Field(description="column or scalar, no instance, no leading dot")
    suffix: str = Field("", pattern=r"^(\d+(\.\d+)*)?$", description="index parts after the row's")
    match: str = Field("", description="the row's name (table key `names`) is exactly this")
    scale: Decimal = Field(Decimal(1), gt=0, description="value = raw x scale / 10^digits")
    digits: Oid | None = Field(None, description="column of decimal digits, same index")
    factors: Oid | None = Field(None, description="column of factors: -10 divides, 10 multiplies")
    exponents: Oid | None = Field(None, description="column of powers of ten, same index")
    not_supported: frozenset[int] = Field(
        frozenset(), description="raw values that mean: this device has no such value"
    )
    negative: Literal["value", "not_supported", "absolute"] = Field(
        "not_supported", description="what a raw number below zero is"
    )
    states: Mapping[str, Literal[0, 1]] = Field(
        {}, description="raw value -> 1 (on, closed) or 0; any other is unknown"
    )
    fahrenheit: bool = Field(False, description="true: becomes degrees Celsius")
    shared: bool = Field(False, description="one scalar that holds for every row")
    unit: Oid | None = Field(None, description="column or scalar that says C or F")
    unit_fahrenheit: frozenset[int] = Field(frozenset(), description="its values that mean F")

    @field_validator("match")
    @classmethod
    def _is_a_pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as why:
            raise ValueError(f"no regular expression: {why}") from why
        return value


def _several(value: object) -> object:
    return value if isinstance(value, list | tuple) else [value]


Columns = Annotated[tuple[Column, ...], BeforeValidator(_several), Field(min_length=1)]


class RowFilter(_Entry):
    """Only rows whose other column has one of these values, or none of those."""

    oid: Oid
    values: frozenset[int] = frozenset()
    not_values: frozenset[int] = frozenset()

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        if bool(self.values) is bool(self.not_values):
            raise ValueError("expected one of values, not_values")
        return self

    def passes(self, value: float | int | None) -> bool:
        return value not in self.not_values if self.not_values else value in self.values


Filters = Annotated[tuple[RowFilter, ...], BeforeValidator(_several)]


class Table(_Entry):
    """Rows of one kind and what each shows."""

    kind: Kind
    columns: Mapping[Measure, Columns] = Field(
        min_length=1, description="of several for one measure the first with a value is the row's"
    )
    names: Oid | None = Field(None, description="column of names that `match` is held against")
    where: Filters = Field((), description="only rows that pass all of these")
    needs: Measure | None = Field(None, description="rows that do not show this are none")
    label: Oid | None = Field(None, description="column of what a row is called, like L1")
    prefix: str = Field("", pattern=r"^[a-z]*$", description="before the row's number")
    row: str = Field(
        "", pattern=r"^[A-Za-z0-9-]*$", description="the name of the one row that each unit has"
    )
    index: str = Field(
        "", description="form of a row's index, with groups `row` and, if there are some, `unit`"
    )
    base: Literal[0, 1] = Field(1, description="the first row's number in the device's index")
    row_first: bool = Field(False, description="the row's number stands first in the index")

    @field_validator("index")
    @classmethod
    def _has_a_row(cls, value: str) -> str:
        try:
            groups = re.compile(value).groupindex
        except re.error as why:
            raise ValueError(f"no regular expression: {why}") from why
        if value and "row" not in groups:
            raise ValueError("no group `row`")
        return value

    @model_validator(mode="after")
    def _names_and_matches_belong_together(self) -> Self:
        matching = any(each.match for columns in self.columns.values() for each in columns)
        if matching is not (self.names is not None):
            raise ValueError("`names` and `match` belong together")
        return self


class Source(_Entry):
    """Where a total may come from: one key of these."""

    object: Column | None = Field(None, description="asked; its rows are added up")
    sum: Kind | None = Field(None, description="the rows of this kind, added up")
    apparent_x_factor: Kind | None = Field(None, description="sum of VA x power factor")
    estimate: Kind | None = Field(None, description="sum of V x A x power factor")
    power_factor: Decimal | None = Field(
        None, gt=0, le=1, description="for the estimate, where the device tells none"
    )

    @model_validator(mode="after")
    def _is_one(self) -> Self:
        given = [self.object, self.sum, self.apparent_x_factor, self.estimate]
        if sum(each is not None for each in given) != 1:
            raise ValueError("expected one of object, sum, apparent_x_factor, estimate")
        return self


class Totals(_Entry):
    """The device's totals, each from the first of its sources that has a value."""

    active_power_w: tuple[Source, ...] = ()
    apparent_power_va: tuple[Source, ...] = ()
    power_factor: tuple[Source, ...] = ()
    energy_kwh: tuple[Source, ...] = ()


class Profile(_Entry):
    """A family of PDUs that answer alike."""

    description: str = Field(min_length=1)
    sys_object_ids: tuple[Oid, ...] = Field(
        (), description="the device's sysObjectID is one of these or lies under one"
    )
    sys_descr: str = Field("", description="its sysDescr shows this, where the ID tells nothing")
    model_tree: Oid | None = Field(
        None, description="objects below this are below the device's own sysObjectID instead"
    )
    rank: int = Field(0, description="of families that fit alike the lowest is tried first")
    probe: tuple[Oid, ...] = Field(min_length=1, description="one of these must have an instance")
    totals: Totals = Totals()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = Field((), description="what an operator should know of its values")

    @field_validator("sys_descr")
    @classmethod
    def _is_a_pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as why:
            raise ValueError(f"no regular expression: {why}") from why
        return value

    def recognises(self, sys_object_id: str) -> bool:
        """Whether a device with this sysObjectID belongs to the family."""
        return self.likeness(sys_object_id) > 0

    def likeness(self, sys_object_id: str) -> int:
        """How long the part of the sysObjectID is that the profile names; 0: another family."""
        found = sys_object_id.lstrip(".")
        return max(
            (
                len(each)
                for each in self.sys_object_ids
                if found == each or found.startswith(each + ".")
            ),
            default=0,
        )

    def for_model(self, sys_object_id: str) -> "Profile":
        """With the objects where this model has them."""
        told = re.fullmatch(r"\.?[0-9]+(\.[0-9]+)*", sys_object_id)
        if not (self.model_tree and told and self.recognises(sys_object_id)):
            return self
        return Profile.model_validate(
            _moved(self.model_dump(), self.model_tree, sys_object_id.lstrip("."))
        )

    def described_by(self, sys_descr: str) -> bool:
        return bool(self.sys_descr) and re.search(self.sys_descr, sys_descr) is not None


def _moved(what: Any, tree: str, to: str) -> Any:
    if isinstance(what, dict):
        return {key: _moved(value, tree, to) for key, value in what.items()}
    if isinstance(what, tuple):
        return tuple(_moved(each, tree, to) for each in what)
    if isinstance(what, str) and what.startswith(tree + "."):
        return to + what[len(tree) :]
    return what


def load_profile(path: Path) -> Profile:
    """One profile; raises BadConfiguration."""
    try:
        return Profile.model_validate(tomllib.loads(path.read_text()))
    except ValidationError as why:
        raise BadConfiguration(complaints_of(path, why)) from why
    except (OSError, ValueError) as why:
        raise BadConfiguration([Complaint(path, "", None, str(why))]) from why


def load_profiles(folder: Path = SHIPPED) -> dict[str, Profile]:
    """Every profile of a folder by its file's name; raises BadConfiguration."""
    complaints: list[Complaint] = []
    profiles = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            profiles[path.stem] = load_profile(path)
        except BadConfiguration as why:
            complaints += why.complaints
    if complaints:
        raise BadConfiguration(complaints)
    return profiles
