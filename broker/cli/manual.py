# SPDX-License-Identifier: GPL-2.0-or-later
"""The page that ``powermgr --help`` prints; entities and columns come from the registry."""

from __future__ import annotations

import textwrap

from broker.cli.entities import ENTITIES, Entity

_HEAD = """\
NAME
       powermgr - view and change the power of a Slurm cluster

SYNOPSIS
       powermgr [OPTIONS] show|list ENTITY [where] [KEY=VALUE[,VALUE...] ...] [format=COLUMNS]
       powermgr [OPTIONS] add|create reservation KEY=VALUE ...
       powermgr [OPTIONS] modify broker [set] mode=off|observe|enforce
       powermgr [OPTIONS] delete reservation [where] name=NAME
       powermgr [OPTIONS] why TICKET|JOBID
       powermgr [OPTIONS] feasible ENVELOPE -N NODES [-t TIME] [-p PARTITION] [-A ACCOUNT]
                          [--gpus-per-node N]
       powermgr [OPTIONS] report showback [start=TIME] [end=TIME] [account=NAME,...]
                          [format=COLUMNS]

DESCRIPTION
       The grammar is sacctmgr's. Verbs, entities, keys and columns may be shortened as long as
       they stay unambiguous, entities may be plural, keys may be in any case, and "where" may be
       left out. A word without "=" is a name: "show rack r2" is "show rack where name=r2".

OPTIONS
       -n, --noheader     print no header
       -P, --parsable2    separate columns with |
       -p, --parsable     the same, with a | at the end of each line
           --json         print an array of objects; keys are the column names, with their unit
       -i, --immediate    change without asking. Without it, add, modify and delete ask when
                          the input is a terminal; in a script they go on without asking.
           --socket PATH  the broker's socket (/run/power-broker/powermgr.sock)
       -h, --help         print this page
       -V, --version      print the version

       Options may stand anywhere; the short ones after "feasible" are sbatch's.

ENTITIES
"""

_TAIL = """
       format=COLUMNS chooses and orders columns. name%10 makes a column 10 wide and cuts what is
       longer, marked with +; name%-10 aligns to the left. Otherwise columns fit their contents.
       Watts are in W and include the idle draw of the nodes. "-" is: not known, or none.

VALUES
       watts      20kW, 20000W, 0.02MW; the unit is needed
       TIME       now, now+1minute, now+2hours, now-7days, today, tomorrow, yesterday, midnight,
                  18:00 (add: the next one), 2026-12-01, 2026-12-01T18:00[:30]; local time
       duration   as in sbatch: 30 (minutes), 30:00, 01:00:00, 1-00:00:00

POWER RESERVATIONS
       add reservation takes name, rack, watts, nodes, start (now), end or duration, and account
       or user, several with commas. The watts include the idle draw of the nodes. A reservation
       cannot be modified: delete it and add it again.

REPORTS
       report showback prints a line per account: jobs, kWh metered, kWh reserved (what its jobs
       were charged, and what its power reservations held beyond that), kWh reserved and not used,
       and the cost by the tariffs in policy.toml. What no job drew is the line (idle). The lines
       add up to what the PDUs metered. With account=, the others are one line (others). Without
       start= and end=: the last 24 hours.

EXIT STATUS
       0    done; feasible: the job fits now
       1    it failed, or the answer to the question was no; the message says why
       2    the words or values were not understood; feasible: bad envelope
       3    not allowed for this user
       10   feasible: the job fits later
       12   feasible: the job can never fit
       141  the reader of the output went away

FILES
       /run/power-broker/powermgr.sock   where powerbrokerd answers; it knows who asks

EXAMPLES
       powermgr show rack format=name,draw_w,headroom_w
       powermgr -nP show job where account=ml state=PENDING
       powermgr add reservation name=launch rack=r2 watts=20kW nodes=2 start=now+1minute
               duration=30 account=ml
       powermgr feasible "power: est=18.5kW max=24kW tier=gold" -N4
       powermgr why 1234
       powermgr report showback start=2026-11-01 end=2026-12-01

SEE ALSO
       sacctmgr(1), scontrol(1), sbatch(1)
"""


def manual() -> str:
    """The whole page."""
    shown = [each for each in ENTITIES.values() if each.shown]
    return _HEAD + "\n".join(_entity(each) for each in shown) + _TAIL


def _entity(entity: Entity) -> str:
    columns = ", ".join(each.name for each in entity.columns if not each.extra)
    extra = ", ".join(each.name for each in entity.columns if each.extra)
    where = ", ".join(each.name for each in entity.where)
    text = _wrapped(f"{entity.name:<12}", columns)
    if extra:
        text += _wrapped(" " * 12, f"on request: {extra}")
    if where:
        text += _wrapped(" " * 12, f"where: {where}")
    return text


def _wrapped(first: str, text: str) -> str:
    return (
        textwrap.fill(
            text,
            width=98,
            initial_indent=" " * 7 + first,
            subsequent_indent=" " * 19,
        )
        + "\n"
    )
