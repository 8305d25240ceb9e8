# SPDX-License-Identifier: GPL-2.0-or-later
"""The collector over a network that loses packets, with one device in ten dead."""

from pathlib import Path

import pytest

from tests.bench import resilience
from tests.support.postgres import Cluster


@pytest.mark.postgres
def test_devices_keep_their_period_beside_lost_packets_and_dead_devices(
    tmp_path: Path, postgres_cluster: Cluster
) -> None:
    folder = tmp_path / "packet_loss"

    gaps = resilience.run(postgres_cluster, pdus=200, bmcs=8, drop=0.3, for_s=15, folder=folder)

    assert gaps.devices == 180
    assert gaps.lost_rows <= resilience.LATE_AT_MOST
    # Two of three requests may be lost: 0.3^3 is 2.7 %, and some turns wait for a new login.
    assert resilience.without_reading(gaps.stored) < 0.054
    assert resilience.without_reading(gaps.stored_bmcs) < 0.2
    assert gaps.asked_at(0.99) < 1.2, f"p99 of the gaps between turns {gaps.asked_at(0.99):.2f}"
    assert gaps.asked_at(0.01) > 0.8
