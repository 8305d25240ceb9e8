# SPDX-License-Identifier: GPL-2.0-or-later
"""The fleet's own record: one JSON object a line, in the order things happened."""

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class Journal:
    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def write(self, event: str, **facts: Any) -> None:
        at = time.time()
        stamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
        line = {"at": round(at, 3), "iso": stamp, "event": event, **facts}
        self._file.write(json.dumps(line) + "\n")

    def close(self) -> None:
        self._file.close()
