# SPDX-License-Identifier: GPL-2.0-or-later
"""The demo: twelve steps on a real Slurm head node, each shown and each checked."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

from tests.demo.stage import NotAsExpected, Stage

RACK_SAFE_W, ROW_SAFE_W, SITE_SAFE_W = 32_000, 58_000, 108_000
ROWS = {"a": ("r1", "r2"), "b": ("r3", "r4")}


def telemetry(s: Stage) -> None:
    """Every rack's PDUs are read over SNMP, both feeds, two seconds apart."""
    s.wait("four racks seen", lambda: all(row["state"] == "ok" for row in s.rows("rack")))
    s.show("powermgr show rack")
    racks = s.rows("rack")
    s.expect(len(racks) == 4, "four racks", quietly=True)
    s.expect(
        all(3_800 <= row["draw_w"] <= 4_200 and row["age_s"] <= 4 for row in racks),
        "four idle racks, each about 4 kW, read within the last 4 s",
    )


def gold_runs_hot(s: Stage) -> None:
    """A gold job that fits runs in the hot lane, charged what it declared."""
    job = s.submit("alice", '-J train -N2 --comment "power: max=17kW tier=gold"', load="7.5kW")
    s.wait_running(job)
    s.wait_seen(job)
    s.show(f"powermgr show job where jobid={job}")
    (row,) = s.rows(f"job where jobid={job}")
    s.expect(
        (row["lane"], row["tier"], row["charge_w"]) == ("hot", "gold", 17_000),
        "it runs hot, is gold, and is charged 17,000 W",
    )


def never_fits(s: Stage) -> None:
    """A job that no limit would ever allow is told so at once, with the numbers."""
    ran = s.show(
        'sbatch -N12 --comment "power: max=10kW/node" --wrap "sleep 600"', user="alice", status=1
    )
    s.expect("never" in ran.text and "ticket" in ran.text, "rejected with the numbers and a ticket")
    s.show('powermgr feasible "power: max=10kW/node" -N12', user="alice", status=12)


def to_cold(s: Stage) -> None:
    """A job that may be preempted waits in the cold lane, not in the hot one."""
    job = s.submit("bob", '-J sweep -N9 --comment "power: max=10kW/node tier=bronze preempt=yes"')
    s.show(f"squeue -j {job} -o '%.6i %.9P %.8u %.9T %r'")
    s.expect(" cold" in s.state(job), f"job {job} is in partition cold")
    s.run(f"scancel {job}")


def undeclared(s: Stage) -> None:
    """A job that says nothing is charged its nodes' maximum, never nothing."""
    job = s.submit("bob", "-J plain -N1", load="4kW")
    s.wait_running(job)
    s.wait_seen(job)
    s.show(f"powermgr show job where jobid={job}")
    (row,) = s.rows(f"job where jobid={job}")
    s.expect(row["charge_w"] == 10_200, "one undeclared node is charged 10,200 W")


def more_jobs_than_watts(s: Stage) -> None:
    """Slurm itself keeps back what does not fit: tokens, rack by rack, row by row."""
    for user in ("alice", "bob"):
        s.show(
            "for i in 1 2 3 4 5 6; do sbatch -Q -N1 -J burn --export=ALL,FLEET_LOAD=9kW"
            ' --comment "power: max=10kW tier=bronze" --wrap "sleep 600"; done',
            user=user,
        )
    s.wait("seven of them to run", lambda: _count(s, "burn", "R") >= 7)
    time.sleep(4)  # long enough for anything more to start, and for the meters to see it
    s.show("squeue -o '%.6i %.9P %.6u %.8j %.9T %.6D %R'")
    s.show("powermgr show rack; powermgr show row; powermgr show site")
    waiting = _count(s, "burn", "PD")
    s.expect(waiting > 0, f"{waiting} jobs wait for watts")
    committed = _committed(s)
    s.expect(
        all(committed[rack] <= RACK_SAFE_W for row in ROWS.values() for rack in row)
        and all(sum(committed[rack] for rack in row) <= ROW_SAFE_W for row in ROWS.values())
        and sum(committed.values()) <= SITE_SAFE_W,
        f"committed by squeue alone: {committed}, no limit passed",
    )
    draws = {row["name"]: row["draw_w"] for row in s.rows("rack")}
    s.expect(all(draw <= RACK_SAFE_W for draw in draws.values()), f"drawn: {draws}")
    s.cancel_all()


def reservation(s: Stage) -> None:
    """Watts are kept for their owner: outsiders wait while they are unused."""
    s.show(
        "powermgr add reservation name=launch rack=r2 watts=20kW nodes=2 start=now"
        " duration=30 account=ml"
    )
    s.wait(
        "the reservation to be active",
        lambda: any(row["state"] == "active" for row in s.rows("reservation")),
    )
    (kept,) = s.rows("reservation where name=launch")
    others = sorted({"n05", "n06", "n07", "n08"} - set(kept["nodes"].split(",")))
    outsiders = [
        s.submit("bob", f'-J outside -w {node} --comment "power: max=10kW"', load="9kW")
        for node in others
    ]
    insider = s.submit("alice", '-J launch -N2 --comment "power: max=20kW tier=gold"', load="9kW")
    s.wait_running(insider, outsiders[0])
    s.wait_seen(insider)
    s.show("powermgr show reservation")
    s.show("powermgr show rack where name=r2")
    s.show("squeue -o '%.6i %.6u %.9j %.9T %.12v %R'")
    states = [s.state(job).split()[0] for job in outsiders]
    s.expect(
        sorted(states) == ["PENDING", "RUNNING"],
        f"job {insider} runs inside; of the two outsiders one runs, and the other waits beside an"
        " idle node: 9 kW of tokens asked, 1 kW left",
    )
    s.show("powermgr -i delete reservation name=launch")
    s.cancel_all()


def overload(s: Stage) -> None:
    """Something draws what nobody was charged for: fence, requeue, back under the limit."""
    s.wait("the reservation gone", lambda: "pw-launch" not in s.run("scontrol show res").out)
    nodes = ("n09", "n10", "n11")
    jobs = [
        s.submit(
            "bob", f'-J bronze{n} -w {node} --comment "power: max=10kW tier=bronze"', load="9kW"
        )
        for n, node in enumerate(nodes, 1)
    ]
    s.wait_running(*jobs)
    s.wait("its draw on the meters", lambda: (s.rack("r3")["draw_w"] or 0) > 30_000)
    s.show("fleet extra r3 15kW")
    fenced_at = s.wait("the fence", lambda: _fenced_at(s, "r3"))
    under = s.wait("the draw back under the limit", lambda: _event(s, "under-limit"))
    over = _event(s, "over-limit-answer")
    assert over is not None
    s.show("scontrol show reservation pw-fence-r3")
    s.show("squeue -o '%.6i %.6u %.9j %.9T %.3D %R'")
    s.show("powermgr show action where kind=SetFence,ShedJob limit=4")
    fence_s, under_s = fenced_at - over["at"], under["at"] - over["at"]
    held = [job for job in jobs if s.state(job).startswith("PENDING")]
    s.expect(bool(held), f"requeued and held: {held}; still running: {len(jobs) - len(held)}")
    s.expect(
        fence_s <= 4 and under_s <= 15,
        f"from the first answer over the limit: fence after {fence_s:.1f} s (at most 4),"
        f" draw under the limit after {under_s:.1f} s (at most 15)",
    )
    s.shed = held[0]


def why(s: Stage) -> None:
    """Every action has a reason that can be asked for."""
    job = s.shed
    ran = s.show(f"powermgr why {job}", user="bob")
    s.expect("ShedJob" in ran.text and "rack r3" in ran.text, f"it tells why job {job} was shed")
    s.show("fleet reset")
    s.cancel_all()


def lost_meter(s: Stage) -> None:
    """A rack that nobody sees counts as full: fenced, but nothing is shed."""
    job = s.submit("bob", '-J blind -w n13 --comment "power: max=10kW tier=bronze"', load="9kW")
    s.wait_running(job)
    s.show("fleet mute r4.B")
    s.wait("rack r4 to count as unseen", lambda: s.rack("r4")["state"] == "unseen")
    s.wait("its fence", lambda: "pw-fence-r4" in s.run("scontrol show res").out)
    s.show("powermgr show rack")
    s.show("scontrol show reservation pw-fence-r4 | head -3")
    s.expect(
        s.state(job).startswith("RUNNING") and s.rack("r4")["headroom_w"] <= 0,
        f"rack r4 counts as full and is fenced; job {job} goes on",
    )
    s.show("fleet unmute r4.B")


def broker_killed(s: Stage) -> None:
    """kill -9 at any time: jobs go on, systemd restarts it, nothing is lost."""
    before = _jobs_and_reservations(s)
    pid = s.run("systemctl show -P MainPID powerbrokerd").out.strip()
    s.show("systemctl kill -s KILL powerbrokerd")
    s.wait(
        "systemd to start another",
        lambda: s.run("systemctl show -P MainPID powerbrokerd").out.strip() not in {"0", pid},
    )
    s.wait("its first cycle", lambda: not s.run("powermgr show rack").status)
    s.show("systemctl show powerbrokerd -p MainPID,NRestarts,ActiveState")
    s.show("powermgr show broker")
    s.expect(_jobs_and_reservations(s) == before, "the same jobs run, the same fences stand")


def showback(s: Stage) -> None:
    """Every watt-hour has an owner, and the lines add up to the PDUs."""
    s.cancel_all()
    time.sleep(3)  # the last polls of the ended jobs
    # From the first full second that every meter was read.
    first = s.run(
        "runuser -u postgres -- psql -Atq power_broker -c"
        " \"select to_char(date_trunc('second', max(began)) + interval '1 s',"
        " 'YYYY-MM-DD\\\"T\\\"HH24:MI:SS') from"
        ' (select min(polled_at) as began from samples group by device) as devices"'
    ).out.strip()
    ran = s.show(f"powermgr report showback start={first} end=now")
    rows = s.rows(f"showback start={first} end=now", verb="report")
    total = next(row for row in rows if row["account"] == "Total")
    parts = [row for row in rows if row["account"] != "Total"]
    added = sum(row["metered_kwh"] for row in parts)
    s.expect(
        {"ml", "bio", "(idle)"} <= {row["account"] for row in parts} and "PDUs" in ran.text,
        "ml, bio and what no job drew",
    )
    s.expect(
        abs(added - total["metered_kwh"]) < 0.0005 * len(parts) and total["metered_kwh"] > 0,
        f"{added:.3f} kWh in lines, {total['metered_kwh']:.3f} kWh at the PDUs",
    )


STEPS: tuple[tuple[str, Callable[[Stage], None]], ...] = (
    ("telemetry of four racks", telemetry),
    ("a gold job that fits runs hot", gold_runs_hot),
    ("a job that can never fit is rejected", never_fits),
    ("a preemptible one is re-routed to cold", to_cold),
    ("an undeclared job is charged its maximum", undeclared),
    ("more jobs than watts", more_jobs_than_watts),
    ("a power reservation, inside and outside", reservation),
    ("an overload: fence, requeue, back under the limit", overload),
    ("why?", why),
    ("a lost meter", lost_meter),
    ("the broker is killed", broker_killed),
    ("showback that adds up", showback),
)


def main() -> int:
    """Tell the story; 0 only if all of it went as expected."""
    stage = Stage()
    began = time.monotonic()
    good = 0
    stage.lab("up")
    try:
        for number, (title, step) in enumerate(STEPS, 1):
            print(f"\n{number}. {title}: {step.__doc__}", flush=True)
            try:
                step(stage)
                good += 1
            except NotAsExpected as wrong:
                print(f"    NOT AS EXPECTED: {wrong}", flush=True)
                print(stage.run("journalctl -u powerbrokerd -n 5 -o cat").out, flush=True)
    finally:
        _leave(stage)
    print(f"\ndemo: took {time.monotonic() - began:.0f} s, the lab included")
    print(f"demo: {good} of {len(STEPS)} steps as expected")
    return 0 if good == len(STEPS) else 1


def _leave(stage: Stage) -> None:
    if not os.environ.get("KEEP"):
        stage.lab("down")
        return
    name = os.environ["LAB_NAME"]
    print(
        f"\nThe lab is still up. Look around, as root or as alice or bob:\n"
        f"    tests/lab/lab --name {name} exec --user alice bash\n"
        f"    tests/lab/lab --name {name} exec powermgr show rack\n"
        f"    tests/lab/lab --name {name} logs powerbrokerd\n"
        f"    tests/lab/lab --name {name} down"
    )


def _count(s: Stage, name: str, state: str) -> int:
    return len(s.run(f"squeue -h -n {name} -t {state} -o %i").out.split())


def _committed(s: Stage) -> dict[str, int]:
    """Committed watts by rack: idle of four nodes, and the tokens squeue shows on them."""
    found = {f"r{n}": 4_000 for n in range(1, 5)}
    lines = s.run("squeue -h -t R,CG,S -o '%W|%N' | tr -d ' '").out.splitlines()
    for line in lines:
        licenses, nodes = line.split("|")
        tokens = int(licenses.split("power:")[1].split(",")[0])
        for node in s.run(f"scontrol show hostnames {nodes}").out.split():
            found[f"r{(int(node[1:]) + 3) // 4}"] += tokens
    return found


def _fenced_at(s: Stage, rack: str) -> float | None:
    """When the fence of a rack stood in Slurm, by the clock of the machine."""
    if f"pw-fence-{rack}" not in s.run("scontrol show reservation").out:
        return None
    return time.time()


def _event(s: Stage, name: str) -> dict[str, float] | None:
    return next((each for each in reversed(s.fleet_log()) if each["event"] == name), None)


def _jobs_and_reservations(s: Stage) -> str:
    jobs = s.run("squeue -h -t R -o '%i %N' | sort").out
    return jobs + s.run("scontrol -o show reservation | grep -o 'ReservationName=[^ ]*' | sort").out


if __name__ == "__main__":
    sys.exit(main())
