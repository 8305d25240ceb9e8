# SPDX-License-Identifier: GPL-2.0-or-later
"""One contract, two clusters: what the services may expect of a SlurmController."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from broker.adapters.slurm.controller import PyslurmController
from broker.domain.cluster import JobState, SlurmView
from broker.domain.errors import SlurmRefused, SlurmUnavailable
from broker.domain.reservation import PowerReservation
from broker.domain.tokens import TokenLayer
from tests.contract.slurm_clusters import (
    NODES,
    ACluster,
    FakeCluster,
    RealCluster,
    lab_to_ourselves,
    wait_for,
)

LAYERS = (
    TokenLayer("site", NODES, 20_000),
    TokenLayer("r1", NODES[:4], 15_000),
    TokenLayer("rest", NODES[4:], 15_000),
)


@pytest.fixture(scope="module")
def lab() -> Iterator[None]:
    with lab_to_ourselves():
        yield


@pytest.fixture(params=["fake", pytest.param("slurm", marks=pytest.mark.lab)])
def cluster(request: pytest.FixtureRequest) -> Iterator[ACluster]:
    """Sixteen idle nodes, alice of account ml, bob of account bio."""
    if request.param == "fake":
        yield FakeCluster()
    else:
        yield request.getfixturevalue("real_cluster")


@pytest.fixture
def real_cluster(lab: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealCluster]:
    # Outside pytest's own folder, which only root may enter: jobs leave their marks here.
    folder = Path("/tmp") / tmp_path_factory.mktemp("slurm").name
    folder.mkdir(exist_ok=True)
    folder.chmod(0o777)
    real = RealCluster(folder)
    try:
        yield real
    finally:
        real.clean()


def a_reservation(name: str = "test-launch", **changes: object) -> PowerReservation:
    now = datetime.now(UTC)
    settings: dict[str, object] = {
        "name": name,
        "rack": "r3",
        "nodes": NODES[8:10],
        "power_w": 20_000,
        "tokens_w": 18_000,
        "starts_at": now - timedelta(minutes=5),
        "ends_at": now + timedelta(hours=1),
        "accounts": ("ml",),
    }
    return PowerReservation(**(settings | changes))  # type: ignore[arg-type]


def running(view: SlurmView, *job_ids: int) -> bool:
    return all(view.jobs[each].state is JobState.RUNNING for each in job_ids)


def test_a_job_is_seen_as_it_was_submitted(cluster: ACluster) -> None:
    job_id = cluster.submit(node_count=2)
    view = wait_for(cluster.controller, lambda view: running(view, job_id))

    job = view.jobs[job_id]
    assert (job.user, job.account, job.partition) == ("alice", "ml", "hot")
    assert len(job.nodes) == job.node_count == 2
    assert (job.batch, job.requeue, job.held, job.restarts) == (True, True, False, 0)
    assert (job.reason, job.licenses, job.reservation) == ("", "", "")
    assert job.started_at is not None
    assert abs(job.started_at - view.seen_at) < timedelta(minutes=1)
    assert set(view.nodes) == set(NODES)


def test_a_waiting_job_counts_the_fewest_nodes_it_needs(cluster: ACluster) -> None:
    cluster.controller.set_fence("test-a", NODES)
    job_id = cluster.submit(node_count=3)

    job = cluster.controller.observe().jobs[job_id]
    assert (job.state, job.nodes, job.node_count) == (JobState.PENDING, (), 3)
    assert job.started_at is None


def test_a_fence_keeps_new_jobs_off_and_is_moved_live(cluster: ACluster) -> None:
    busy = cluster.submit()
    view = wait_for(cluster.controller, lambda view: running(view, busy))
    (taken,) = view.jobs[busy].nodes
    open_nodes = [name for name in NODES if name != taken][-2:]

    cluster.controller.set_fence("test-a", [name for name in NODES if name not in open_nodes[1:]])
    first, second = cluster.submit(), cluster.submit()
    view = wait_for(cluster.controller, lambda view: running(view, first))
    assert view.jobs[first].nodes == (open_nodes[1],)
    assert running(view, busy)
    assert view.jobs[second].state is JobState.PENDING

    cluster.controller.set_fence("test-a", [name for name in NODES if name not in open_nodes])
    view = wait_for(cluster.controller, lambda view: running(view, second))
    assert view.jobs[second].nodes == (open_nodes[0],)


def test_a_fence_has_no_end_and_goes_away_when_it_is_empty(cluster: ACluster) -> None:
    cluster.controller.set_fence("test-a", NODES[:4])
    fence = cluster.controller.observe().reservations["pw-fence-test-a"]
    assert set(fence.nodes) == set(NODES[:4])
    assert fence.ends_at > datetime.now(UTC) + timedelta(days=1000)

    for _ in range(2):
        cluster.controller.set_fence("test-a", [])
        assert "pw-fence-test-a" not in cluster.controller.observe().reservations


def test_fences_of_two_racks_do_not_touch_each_other(cluster: ACluster) -> None:
    cluster.controller.set_fence("test-a", NODES[:4])
    cluster.controller.set_fence("test-b", NODES[4:8])
    cluster.controller.set_fence("test-a", [])

    assert set(cluster.controller.observe().reservations) == {"pw-fence-test-b"}


def test_a_requeued_job_is_held_until_it_is_released(cluster: ACluster) -> None:
    job_id = cluster.submit()
    wait_for(cluster.controller, lambda view: running(view, job_id))

    for _ in range(2):
        cluster.controller.requeue_held(job_id)
    view = wait_for(cluster.controller, lambda view: view.jobs[job_id].state is JobState.PENDING)
    assert view.jobs[job_id].held
    assert (view.jobs[job_id].restarts, view.jobs[job_id].nodes) == (1, ())

    cluster.controller.requeue_held(job_id)
    assert cluster.controller.observe().jobs[job_id].restarts == 1

    for _ in range(2):
        cluster.controller.release(job_id)
    wait_for(cluster.controller, lambda view: running(view, job_id))


def test_a_waiting_job_can_be_held_too(cluster: ACluster) -> None:
    cluster.controller.set_fence("test-a", NODES)
    job_id = cluster.submit()
    cluster.controller.requeue_held(job_id)

    assert cluster.controller.observe().jobs[job_id].held


def test_an_admin_comment_comes_back_as_it_was_written(cluster: ACluster) -> None:
    job_id = cluster.submit()
    text = '{"v":1,"ticket":"a-1","lane":"hot","tier":"bronze","est_w":1200,"reason":"Fits"}'
    cluster.controller.set_admin_comment(job_id, text)
    assert cluster.controller.observe().jobs[job_id].admin_comment == text

    cluster.controller.set_admin_comment(job_id, "")
    assert cluster.controller.observe().jobs[job_id].admin_comment == ""


def test_a_signal_reaches_the_batch_script(cluster: ACluster) -> None:
    job_id = cluster.submit()
    wait_for(cluster.controller, lambda view: running(view, job_id))
    if isinstance(cluster, RealCluster):
        assert cluster.script_runs(job_id)

    cluster.controller.signal(job_id, "SIGUSR1")

    assert cluster.got_signal(job_id)
    assert running(cluster.controller.observe(), job_id)


def test_tokens_bind_at_every_layer_and_are_summed_as_the_jobs_hold_them(
    cluster: ACluster,
) -> None:
    cluster.use_layers(LAYERS)
    first, second, third = (cluster.submit(licenses="power:9000") for _ in range(3))
    view = wait_for(cluster.controller, lambda view: running(view, first, second))
    assert view.jobs[third].state is JobState.PENDING

    usage = {
        frozenset(nodes): (total, used) for nodes, total, used in cluster.controller.token_usage()
    }
    for layer in LAYERS:
        held_w = sum(
            9_000 for each in (first, second) if set(view.jobs[each].nodes) <= set(layer.nodes)
        )
        assert usage[frozenset(layer.nodes)] == (layer.count_w, held_w)

    # 8 + 9 + 9 kW are too much for the site; 1 + 9 + 9 kW are not.
    cluster.controller.set_tokens(first, 1_000)
    view = wait_for(cluster.controller, lambda view: running(view, third))
    assert view.jobs[first].tokens_w_per_node == 1_000


def test_tokens_are_set_and_taken_without_touching_other_licences(cluster: ACluster) -> None:
    cluster.use_layers(LAYERS)
    cluster.controller.set_fence("test-a", NODES)
    job_id = cluster.submit(licenses="matlab:2,power:9000")

    cluster.controller.set_tokens(job_id, 7_000)
    job = cluster.controller.observe().jobs[job_id]
    assert (job.tokens_w_per_node, job.licenses) == (7_000, "matlab:2,power:7000")

    cluster.controller.set_tokens(job_id, None)
    assert cluster.controller.observe().jobs[job_id].licenses == "matlab:2"


def test_the_last_licence_can_be_taken_and_given_again(cluster: ACluster) -> None:
    cluster.use_layers(LAYERS)
    job_id = cluster.submit(licenses="power:9000")
    wait_for(cluster.controller, lambda view: running(view, job_id))

    cluster.controller.set_tokens(job_id, None)
    assert cluster.controller.observe().jobs[job_id].tokens_w_per_node is None
    cluster.controller.set_tokens(job_id, 5_000)
    assert cluster.controller.observe().jobs[job_id].tokens_w_per_node == 5_000


def test_reserved_nodes_run_their_owners_jobs_and_no_others(cluster: ACluster) -> None:
    for _ in range(2):
        cluster.controller.create_reservation(a_reservation())
    found = cluster.controller.observe().reservations["pw-test-launch"]
    assert (set(found.nodes), found.accounts) == (set(NODES[8:10]), ("ml",))
    assert abs(found.starts_at - datetime.now(UTC)) < timedelta(minutes=2)

    outsider = cluster.submit(node_count=15, user="bob")
    insider = cluster.submit(node_count=2, reservation="pw-test-launch")
    view = wait_for(cluster.controller, lambda view: running(view, insider))
    assert set(view.jobs[insider].nodes) == set(NODES[8:10])
    assert view.jobs[insider].reservation == "pw-test-launch"
    assert view.jobs[outsider].state is JobState.PENDING


def test_a_reservation_can_be_made_under_a_fence_and_on_busy_nodes(cluster: ACluster) -> None:
    busy = cluster.submit(node_count=16)
    wait_for(cluster.controller, lambda view: running(view, busy))
    cluster.controller.set_fence("test-a", NODES[8:12])

    cluster.controller.create_reservation(a_reservation())
    cluster.controller.set_fence("test-a", NODES[8:11])

    reservations = cluster.controller.observe().reservations
    assert set(reservations) == {"pw-test-launch", "pw-fence-test-a"}
    assert running(cluster.controller.observe(), busy)


def test_two_reservations_do_not_share_a_node(cluster: ACluster) -> None:
    cluster.controller.create_reservation(a_reservation())

    with pytest.raises(SlurmRefused, match="create reservation pw-test-other"):
        cluster.controller.create_reservation(a_reservation("test-other", nodes=NODES[9:11]))


def test_a_reservation_that_was_changed_is_brought_in_line(cluster: ACluster) -> None:
    ends_at = datetime.now(UTC) + timedelta(hours=2)
    cluster.controller.create_reservation(a_reservation())
    cluster.controller.create_reservation(a_reservation(nodes=NODES[8:11], ends_at=ends_at))

    found = cluster.controller.observe().reservations["pw-test-launch"]
    assert set(found.nodes) == set(NODES[8:11])
    assert abs(found.ends_at - ends_at) < timedelta(minutes=1)


def test_a_fence_stops_the_jobs_of_a_reservation_too(cluster: ACluster) -> None:
    cluster.controller.create_reservation(a_reservation())
    cluster.controller.set_fence("test-a", NODES[8:12])
    insider = cluster.submit(reservation="pw-test-launch")
    free = cluster.submit()
    view = wait_for(cluster.controller, lambda view: running(view, free))
    assert view.jobs[insider].state is JobState.PENDING

    cluster.controller.set_fence("test-a", [])
    wait_for(cluster.controller, lambda view: running(view, insider))


def test_a_reservation_is_deleted_once_and_again(cluster: ACluster) -> None:
    cluster.controller.create_reservation(a_reservation())
    for _ in range(2):
        cluster.controller.delete_reservation("pw-test-launch")
        assert "pw-test-launch" not in cluster.controller.observe().reservations


def test_a_reservation_in_use_is_not_deleted(cluster: ACluster) -> None:
    cluster.controller.create_reservation(a_reservation())
    insider = cluster.submit(reservation="pw-test-launch")
    wait_for(cluster.controller, lambda view: running(view, insider))

    with pytest.raises(SlurmRefused, match="delete reservation pw-test-launch"):
        cluster.controller.delete_reservation("pw-test-launch")


REFUSED_CALLS = {
    "requeue a job that is not there": lambda slurm: slurm.requeue_held(99_999),
    "release a job that is not there": lambda slurm: slurm.release(99_999),
    "signal a job that is not there": lambda slurm: slurm.signal(99_999, "SIGUSR1"),
    "set tokens of a job that is not there": lambda slurm: slurm.set_tokens(99_999, 1_000),
    "fence a node that is not there": lambda slurm: slurm.set_fence("test-a", ["n99"]),
    "reserve for nobody": lambda slurm: slurm.create_reservation(a_reservation(accounts=())),
}


@pytest.mark.parametrize("call", REFUSED_CALLS.values(), ids=REFUSED_CALLS.keys())
def test_what_slurmctld_refuses_says_so(cluster: ACluster, call) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(SlurmRefused):
        call(cluster.controller)


def test_a_slurmctld_that_is_not_there_is_unavailable(cluster: ACluster) -> None:
    controller = cluster.unreachable()
    began = time.monotonic()
    for call in (controller.observe, lambda: controller.set_fence("test-a", ["n01"])):
        with pytest.raises(SlurmUnavailable):
            call()
    assert time.monotonic() - began < 2 * (2.0 + 2.0)


@pytest.mark.lab
def test_a_child_that_was_killed_is_replaced(real_cluster: RealCluster) -> None:
    controller = real_cluster.pyslurm
    controller.observe()
    killed = controller.child_pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    _wait_until_dead(killed)

    assert set(controller.observe().nodes) == set(NODES)
    assert controller.child_pid != killed


@pytest.mark.lab
def test_a_child_that_hangs_is_killed_at_the_deadline(real_cluster: RealCluster) -> None:
    controller = PyslurmController(deadline_s=1.0)
    controller.observe()
    hung = controller.child_pid
    assert hung is not None
    os.kill(hung, signal.SIGSTOP)

    began = time.monotonic()
    with pytest.raises(SlurmUnavailable, match="no answer within 1 s"):
        controller.observe()
    assert time.monotonic() - began < 1.5
    assert set(controller.observe().nodes) == set(NODES)
    controller.close()


@pytest.mark.lab
def test_a_broken_resource_file_is_refused_and_the_old_layers_stay(
    real_cluster: RealCluster,
) -> None:
    real_cluster.use_layers(LAYERS)
    Path("/etc/slurm/resources.yaml").write_text("- resource: power\n  mode: MODE_9\n")

    with pytest.raises(SlurmRefused):
        real_cluster.controller.reconfigure()

    assert len(real_cluster.controller.token_usage()) == len(LAYERS)
    real_cluster.use_layers(LAYERS)


def _wait_until_dead(pid: int) -> None:
    ends = time.monotonic() + 5
    while Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1][0] != "Z":
        assert time.monotonic() < ends
        time.sleep(0.01)


def test_where_there_is_no_slurm_conf_slurm_is_unavailable(tmp_path: Path) -> None:
    nowhere = tmp_path / "slurm.conf"
    controller = PyslurmController(environment={"SLURM_CONF": str(nowhere)})

    with pytest.raises(SlurmUnavailable, match=f"no slurm.conf at {nowhere}"):
        controller.observe()
    controller.close()
