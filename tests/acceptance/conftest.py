# SPDX-License-Identifier: GPL-2.0-or-later
"""Acceptance: the whole head node at work, inside the lab. Each test leaves it idle and healthy."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance import head


@pytest.fixture(scope="session", autouse=True)
def impatient_broker() -> Iterator[None]:
    """Fences and shed jobs come back after seconds, and silver's notice is short."""
    with head.policy(give_back_after_s=3, silver_notice_s=5):
        head.clean_up()
        yield


@pytest.fixture(autouse=True)
def clean_head(impatient_broker: None) -> Iterator[None]:
    yield
    head.clean_up()
