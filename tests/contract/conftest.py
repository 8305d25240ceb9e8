# SPDX-License-Identifier: GPL-2.0-or-later
"""What the contract tests of both SNMP engines ask."""

from collections.abc import AsyncIterator

import pytest

from tests.support.nasty_agent import NastyAgent, nasty_agent


@pytest.fixture
async def agent() -> AsyncIterator[NastyAgent]:
    async with nasty_agent() as agent:
        yield agent
