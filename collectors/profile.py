# SPDX-License-Identifier: GPL-2.0-or-later
"""Vendors as data: a profile says what to ask a PDU and what its integers mean."""

import tomllib
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from collectors.complaints import BadConfiguration, Complaint, complaints_of
from collectors.plausibility import Meaning

SHIPPED = Path(__file__).parent / "profiles"

Oid = Annotated[str, Field(pattern=r"^[0-2](\.\d+)+$")]


class MeasuredObject(BaseModel):
    """One object of the device's MIB and how its raw value becomes our unit."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    oid: Oid = Field(description="the instance asked, no leading dot")
    scale: Decimal = Field(Decimal(1), gt=0, description="value = raw x scale / 10^digits")
    digits_oid: Oid | None = Field(None, description="object holding the number of decimal digits")
    not_supported: frozenset[int] = Field(
        frozenset(), description="raw values that mean: this device has no such value"
    )

    def meaning(self, digits: int = 0) -> Meaning:
        """How to read a raw value, given the decimal digits the device told at discovery."""
        return Meaning(self.scale.scaleb(-digits), self.not_supported)


class Profile(BaseModel):
    """A family of PDUs that answer alike."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = Field(min_length=1)
    sys_object_ids: tuple[Oid, ...] = Field(
        min_length=1, description="the device's sysObjectID is one of these or lies under one"
    )
    active_power_w: MeasuredObject
    apparent_power_va: MeasuredObject | None = None
    energy_wh: MeasuredObject | None = None

    def objects(self) -> Mapping[str, MeasuredObject]:
        """What is asked in one poll, by the column it fills."""
        named = {
            "active_power_w": self.active_power_w,
            "apparent_power_va": self.apparent_power_va,
            "energy_wh": self.energy_wh,
        }
        return {name: each for name, each in named.items() if each is not None}

    def recognises(self, sys_object_id: str) -> bool:
        """Whether a device with this sysObjectID belongs to the family."""
        return any(
            sys_object_id == each or sys_object_id.startswith(each + ".")
            for each in self.sys_object_ids
        )


def load_profiles(folder: Path = SHIPPED) -> dict[str, Profile]:
    """Every profile of a folder by its file's name; raises BadConfiguration."""
    complaints: list[Complaint] = []
    profiles = {}
    for path in sorted(folder.glob("*.toml")):
        try:
            profiles[path.stem] = Profile.model_validate(tomllib.loads(path.read_text()))
        except ValidationError as why:
            complaints += complaints_of(path, why)
        except (OSError, ValueError) as why:
            complaints.append(Complaint(path, "", None, str(why)))
    if complaints:
        raise BadConfiguration(complaints)
    return profiles
