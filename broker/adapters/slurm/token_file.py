# SPDX-License-Identifier: GPL-2.0-or-later
"""resources.yaml on disk, as the cycle keeps it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from broker.adapters.slurm.resources_yaml import NO_RESOURCES, render, write_resources
from broker.domain.tokens import TokenLayer

# A line as render() writes it: the name stands in the comment.
_LAYER = re.compile(r"count: (\d+)}  # (\S+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class YamlTokenFile:
    """slurmctld reads it through a link in its own folder."""

    path: Path

    def holds(self, layers: Sequence[TokenLayer]) -> bool:
        try:
            return self.path.read_text() == _text(layers)
        except FileNotFoundError:
            return False

    def write(self, layers: Sequence[TokenLayer]) -> None:
        write_resources(self.path, _text(layers))

    def restore(self) -> None:
        before = self.path.with_name(self.path.name + ".last-good")
        if before.exists():
            shutil.copyfile(before, self.path)

    def counts(self) -> Mapping[str, int]:
        try:
            found = _LAYER.findall(self.path.read_text())
        except FileNotFoundError:
            return {}
        return {name: int(count) for count, name in found}


def _text(layers: Sequence[TokenLayer]) -> str:
    return render(layers) if layers else NO_RESOURCES
