# SPDX-License-Identifier: GPL-2.0-or-later
"""Whole cycles on the fakes: what is planned is applied, and then nothing is left to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pytest

from broker.domain.admission_state import AdmissionState, Switches
from broker.domain.cluster import JobState
from broker.domain.errors import ConfigInvalid, SlurmRefused, SlurmUnavailable, StoreUnavailable
from broker.domain.reservation import ReservationState
from broker.domain.switches import Mode
from broker.domain.tokens import TokenLayer
from broker.services.apply import Apply
from broker.services.cycle import Cycle, TokenLayers
from broker.services.ingest import Ingest
from broker.services.observe import Observe
from broker.services.publish import Site
from broker.services.settle_jobs import SettleJobs
from broker.testing.fake_slurm import FakeSlurm
from broker.testing.memory_store import MemoryStore
from tests.support.builders import A_MINUTE, NOON, POLL, RULES, a_graph, a_reading, a_reservation

GRAPH = a_graph(row_w=100_000, site_w=200_000)  # only racks bind
SITE = Site(cluster="lab", graph=GRAPH, rules=RULES, switches=Switches(), admins=("root",))


@dataclass
class Time:
    at: datetime = NOON

    def now(self) -> datetime:
        return self.at


@dataclass
class NoSpool:
    lines: list[bytes] = field(default_factory=list)

    def identity(self) -> str | None:
        return None

    def read(self, offset: int) -> tuple[list[bytes], int]:
        return [], offset


@dataclass
class MemoryFile:
    """resources.yaml in memory; the fake Slurm reads it on reconfigure."""

    slurm: FakeSlurm
    before: Sequence[TokenLayer] = ()
    broken: Exception | None = None

    def holds(self, layers: Sequence[TokenLayer]) -> bool:
        if self.broken:
            raise self.broken
        return tuple(layers) == tuple(self.slurm.resources)

    def write(self, layers: Sequence[TokenLayer]) -> None:
        self.before, self.slurm.resources = self.slurm.resources, tuple(layers)

    def restore(self) -> None:
        self.slurm.resources = self.before

    def counts(self) -> Mapping[str, int]:
        if isinstance(self.broken, OSError):
            raise self.broken
        return {layer.name: layer.count_w for layer in self.slurm.resources}


class World:
    """Slurm, ledger and meters that outlive a broker; each broker starts with empty memory."""

    def __init__(self, mode: Mode = Mode.ENFORCE) -> None:
        self.time = Time()
        self.slurm = FakeSlurm(tuple(GRAPH.nodes), now=self.time.now)
        self.store = MemoryStore()
        self.store.set_mode(mode, by="test", now=NOON)
        self.file = MemoryFile(self.slurm)
        self.draws_w: dict[str, int] = {}
        self.states: list[AdmissionState] = []
        self.broker = self.start()
        self.poll(2)

    def start(self, publish: Callable[[AdmissionState], None] | None = None) -> Cycle:
        self.broker = Cycle(
            site=SITE,
            observe=Observe(self.slurm, self.store, self.time, RULES, Mode.OBSERVE),
            token_layers=TokenLayers(
                self.file, self.slurm, self.store, self.time, timedelta(seconds=10)
            ),
            apply=Apply(self.slurm, self.store, self.time),
            settle=SettleJobs(SITE, self.store),
            ingest=Ingest(NoSpool(), self.store),
            clock=self.time,
            publish=publish or self.states.append,
        )
        return self.broker

    def poll(self, times: int = 1) -> None:
        """The meters are read, some seconds pass."""
        for _ in range(times):
            self.time.at += POLL
            for rack in GRAPH.racks:
                power_w = self.draws_w.get(rack.name, 4_000)
                for pdu in rack.pdus:
                    self.store.add_reading(a_reading(pdu, power_w // 2, now=self.time.at))
            for node in GRAPH.nodes.values():
                power_w = self.draws_w.get(node.name, 1_000)
                self.store.add_reading(a_reading(node.bmc, power_w, now=self.time.at))

    def cycle(self, times: int = 1) -> str:
        sentence = ""
        for _ in range(times):
            sentence = self.broker()
            self.poll()
        return sentence

    def in_slurm(self) -> object:
        return (
            dict(self.slurm.jobs),
            {k: v.nodes for k, v in self.slurm.reservations.items()},
            self.slurm.layers,
        )


TOKENS = '{"v":1,"ticket":"T1","tier":"bronze"}'


def a_job(world: World, tokens_w: int = 9_000, **others: object) -> int:
    return world.slurm.submit(licenses=f"power:{tokens_w}", admin_comment=TOKENS, **others)  # type: ignore[arg-type]


def test_the_first_cycle_compiles_the_layers_and_fences_nothing() -> None:
    world = World()

    sentence = world.cycle()

    assert sentence == "token layers compiled (the inventory's layers)"
    assert world.slurm.layers[0].count_w == 184_000
    assert world.slurm.reservations == {}
    assert world.cycle().startswith("no action: 16.00 kW drawn and 16.00 kW committed of 200.00 kW")
    assert world.slurm.reconfigured == 1


def test_applied_once_there_is_nothing_left_to_do_for_the_same_broker_or_another() -> None:
    world = World()
    world.cycle()
    world.slurm.submit(node_count=2)
    world.store.add_reservation(a_reservation(), graph=GRAPH, now=NOON, by="root")
    world.cycle(12)
    assert world.slurm.jobs[1].tokens_w_per_node == 9_200
    assert "pw-launch" in world.slurm.reservations
    assert {layer.name for layer in world.slurm.layers} >= {"pw-launch", "r2-rest"}
    before, rows = world.in_slurm(), len(world.store.actions(limit=1000))

    assert world.cycle().startswith("no action")
    for _ in range(3):
        world.start()
        assert world.cycle().startswith("no action")

    assert world.in_slurm() == before
    assert len(world.store.actions(limit=1000)) == rows


def test_an_overload_is_fenced_shed_and_given_back() -> None:
    world = World()
    world.cycle()
    for _ in range(3):
        a_job(world)
    world.draws_w = {"r1": 34_000, "n01": 10_000, "n02": 10_000, "n03": 9_900}
    world.poll(2)

    sentence = world.cycle()

    assert "SetFence r1" in sentence
    assert "ShedJob" in sentence
    assert set(world.slurm.reservations["pw-fence-r1"].nodes) == {"n01", "n02", "n03", "n04"}
    held = [job for job in world.slurm.jobs.values() if job.held]
    assert len(held) == 1
    world.draws_w = {"r1": 22_000, "n01": 10_000, "n02": 10_000}
    world.cycle(12)
    assert not world.slurm.jobs[held[0].job_id].held
    assert "pw-fence-r1" not in world.slurm.reservations
    kinds = [each.kind for each in world.store.actions(limit=100)]
    assert kinds[::-1][:3] == ["KeepTokenLayers", "SetFence", "ShedJob"]
    assert sorted(kinds[:2]) == ["GiveBack", "SetFence"]
    assert len(kinds) == 5
    assert {each.outcome for each in world.store.actions(limit=100)} == {"done"}


def test_a_broker_that_dies_after_a_shed_is_followed_by_one_that_sheds_no_other() -> None:
    world = World()
    world.cycle()
    for _ in range(3):
        a_job(world)
    world.draws_w = {"r1": 34_000, "n01": 10_000, "n02": 10_000, "n03": 9_900}
    world.poll(2)
    world.broker()
    world.start()
    world.broker()

    assert sum(job.held for job in world.slurm.jobs.values()) == 1


def test_the_ledger_away_from_the_start_nothing_is_taken_away() -> None:
    world = World()
    world.cycle()
    world.store.add_reservation(a_reservation(), graph=GRAPH, now=NOON, by="root")
    a_job(world)
    world.cycle(8)
    before = world.in_slurm()

    world.store.away = "connection refused"
    world.start()
    with pytest.raises(StoreUnavailable):
        world.broker()

    assert world.in_slurm() == before


def test_the_ledger_away_later_sheds_all_the_same_and_writes_it_down_afterwards() -> None:
    world = World()
    world.cycle()
    a_job(world)
    world.draws_w = {"r1": 36_000, "n01": 10_000}
    world.poll(2)
    world.broker.observe(tokens_enforced=True)
    world.store.away = "connection refused"

    assert "ShedJob 1" in world.broker()

    world.store.away = ""
    world.broker()
    assert "ShedJob" in [each.kind for each in world.store.actions(limit=10)]


def test_slurm_away_nothing_is_decided() -> None:
    world = World()
    world.cycle()
    world.slurm.reachable = False

    with pytest.raises(SlurmUnavailable):
        world.broker()


def test_off_strips_the_tokens_before_the_resource_goes() -> None:
    world = World()
    world.cycle()
    a_job(world)
    a_job(world, node_count=5)
    world.store.set_mode(Mode.OFF, by="root", now=NOON)
    world.poll(6)

    world.cycle()
    assert world.slurm.layers, "one cycle more, until Slurm shows no tokens"
    assert all(job.tokens_w_per_node is None for job in world.slurm.jobs.values())
    world.poll(5)
    world.cycle()

    assert world.slurm.layers == ()
    assert all(job.state is JobState.RUNNING for job in world.slurm.jobs.values())
    assert world.states[-1].mode == "off"


def test_the_hook_is_told_whose_changes_may_pass_before_the_first_of_them() -> None:
    world = World()
    world.draws_w = {"r1": 36_000}
    world.poll(2)
    fences: list[list[str]] = []
    broker = world.start(publish=lambda _: fences.append(list(world.slurm.reservations)))

    broker()

    assert fences == [[], ["pw-fence-r1"]]


def test_nobody_is_charged_before_slurm_has_read_the_layers() -> None:
    world = World()
    world.cycle()
    world.store.set_mode(Mode.OFF, by="root", now=NOON)
    world.poll(6)
    world.cycle()
    job = world.slurm.submit()
    world.store.set_mode(Mode.ENFORCE, by="root", now=NOON)

    # slurmctld was reconfigured seconds ago, and is not again so soon.
    world.cycle()
    assert world.states[-1].mode == "observe", "the hook must not write tokens yet"
    assert not world.store.actions(kind="ChargeJob", limit=10)
    world.poll(5)
    world.cycle()

    assert world.states[-1].mode == "enforce"
    assert world.slurm.jobs[job].tokens_w_per_node
    assert [each.outcome for each in world.store.actions(kind="ChargeJob", limit=10)] == ["done"]


def test_a_new_installation_that_observes_touches_nothing() -> None:
    world = World(Mode.OBSERVE)
    world.slurm.submit()
    world.draws_w = {"r1": 36_000, "n01": 10_000}
    world.poll(2)
    before = world.in_slurm()

    assert "would SetFence r1" in world.cycle()
    assert world.in_slurm() == before


class Refusing(FakeSlurm):
    refuse: Exception | None = None
    tried = 0

    def reconfigure(self) -> None:
        self.tried += 1
        if self.refuse:
            error, self.refuse = self.refuse, None
            raise error
        super().reconfigure()


def a_refusing_world(error: Exception) -> World:
    world = World()
    world.slurm = Refusing(tuple(GRAPH.nodes), now=world.time.now)
    world.slurm.refuse = error
    world.file = MemoryFile(world.slurm)
    world.start()
    return world


def test_a_file_that_was_written_and_not_read_is_read_later() -> None:
    world = a_refusing_world(SlurmUnavailable("reconfigure: time-out"))
    with pytest.raises(SlurmUnavailable):
        world.broker()
    assert world.slurm.resources
    assert not world.slurm.layers

    world.cycle(8)

    assert world.slurm.layers == tuple(world.slurm.resources)


def test_so_does_the_next_broker_when_this_one_died_in_between() -> None:
    world = a_refusing_world(SlurmUnavailable("reconfigure: time-out"))
    with pytest.raises(SlurmUnavailable):
        world.broker()

    world.start()
    world.broker()

    assert world.slurm.layers == tuple(world.slurm.resources)
    assert world.slurm.layers


def test_refused_layers_are_taken_back_read_again_and_not_tried_each_round() -> None:
    world = a_refusing_world(SlurmRefused("reconfigure: bad resources.yaml"))

    assert "slurmctld refused resources.yaml" in world.broker()
    assert world.slurm.resources == ()
    assert isinstance(world.slurm, Refusing)
    assert world.slurm.tried == 2, "a good one has to follow a bad one"
    world.cycle(20)
    assert world.slurm.tried == 2
    world.time.at += 10 * A_MINUTE
    world.poll(2)
    world.cycle()
    assert world.slurm.layers


@pytest.mark.parametrize("error", [ConfigInvalid("two racks share n01"), OSError("disk full")])
def test_layers_that_cannot_be_written_stop_no_fence(error: Exception) -> None:
    world = World()
    world.file.broken = error
    world.draws_w = {"r1": 36_000}
    world.poll(2)

    sentence = world.broker()

    assert f"token layers stay as they are: {error}" in sentence
    assert "SetFence r1" in sentence


def test_a_new_pool_gets_its_watts_only_after_outsiders_were_lowered() -> None:
    world = World()
    world.cycle(12)
    world.store.add_reservation(a_reservation(), graph=GRAPH, now=NOON, by="root")

    def counts() -> dict[str, int]:
        return {layer.name: layer.count_w for layer in world.slurm.layers}

    world.cycle()
    assert (counts()["pw-launch"], counts()["r2-rest"]) == (0, 10_000)
    assert world.store.reservations()[0].state is ReservationState.PENDING
    world.cycle(2)
    assert (counts()["pw-launch"], counts()["r2-rest"]) == (18_000, 10_000)
    assert world.store.reservations()[0].state is ReservationState.ACTIVE
    before = world.slurm.reconfigured

    world.start()
    world.cycle(3)
    assert world.slurm.reconfigured == before, "a broker that starts finds the pool as it is"


def test_a_reservation_goes_active_and_ends_by_itself() -> None:
    world = World()
    world.cycle()
    world.store.add_reservation(a_reservation(), graph=GRAPH, now=NOON, by="root")
    world.cycle(2)
    assert world.store.reservations()[0].state is ReservationState.ACTIVE

    world.time.at = NOON + 31 * A_MINUTE
    world.poll(3)
    world.cycle(8)

    assert world.store.reservations() == []
    assert world.slurm.reservations == {}
    assert "pw-launch" not in {layer.name for layer in world.slurm.layers}


def test_generations_only_grow_and_the_state_says_what_is_left() -> None:
    world = World()
    world.cycle(3)
    a_job(world, 9_000)
    world.cycle(2)
    world.start()
    world.cycle(2)

    numbers = [state.generation for state in world.states]
    assert numbers == sorted(set(numbers))
    rack = next(each for each in world.states[-1].layers if each.name == "r1")
    assert (rack.tokens_now_w, rack.nodes_now, rack.tokens_ever_w) == (19_000, 3, 28_000)
