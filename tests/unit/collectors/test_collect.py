# SPDX-License-Identifier: GPL-2.0-or-later
import resource
from collections.abc import Iterator

import pytest

from collectors.collect import allow_sockets


@pytest.fixture
def few_files() -> Iterator[int]:
    """As systemd starts a service: 1,024 files, and many more for the asking."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    yield hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_large_site_gets_its_sockets(few_files: int) -> None:
    allow_sockets(2_000)

    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (3_024, few_files)


def test_a_limit_too_low_for_the_site_is_told(
    few_files: int, caplog: pytest.LogCaptureFixture
) -> None:
    if few_files == resource.RLIM_INFINITY:
        few_files = 2**20
        resource.setrlimit(resource.RLIMIT_NOFILE, (1024, few_files))

    allow_sockets(few_files)

    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == few_files
    assert f"{few_files} files may be open, {few_files + 1024} are wanted" in caplog.text
