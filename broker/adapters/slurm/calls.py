# SPDX-License-Identifier: GPL-2.0-or-later
"""What the child does on slurmctld, call by call. pyslurm is handed in: nothing loads it here."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from broker.adapters.slurm import translate
from broker.adapters.slurm.hostlist import compress
from broker.domain.cluster import JobState, SlurmReservation, SlurmView

# slurm_errno.h
_JOB_PENDING = 2024
_RESERVATION_INVALID = 2053

# "UNLIMITED" would mean one year to slurmctld, and INFINITE is no end time to pyslurm.
_FENCE_LASTS = timedelta(days=3650)


def observe(slurm: Any) -> SlurmView:
    """Nodes, jobs and reservations."""
    return translate.view(
        slurm.Nodes.load(), slurm.Jobs.load(), slurm.Reservations.load(), seen_at=_now()
    )


def set_fence(slurm: Any, rack: str, nodes: tuple[str, ...]) -> None:
    """Make the rack's fence cover exactly these nodes."""
    name = f"pw-fence-{rack}"
    if not nodes:
        delete_reservation(slurm, name)
        return
    found = _reservation(slurm, name)
    if found is None:
        _create(slurm, name, _fence_settings(slurm, nodes))
    elif set(found.nodes) != set(nodes):
        changes = slurm.Reservation(nodes=compress(nodes))
        slurm.Reservation(name).modify(changes)


def create_reservation(slurm: Any, wanted: SlurmReservation) -> None:
    """Create a reservation of named nodes; make one of that name like it."""
    found = _reservation(slurm, wanted.name)
    if found is None:
        _create(slurm, wanted.name, _reservation_settings(slurm, wanted))
    elif not _alike(found, wanted):
        settings = _owner_settings(wanted) | {
            "nodes": compress(wanted.nodes),
            "end_time": int(wanted.ends_at.timestamp()),
        }
        slurm.Reservation(wanted.name).modify(slurm.Reservation(**settings))


def delete_reservation(slurm: Any, name: str) -> None:
    """Delete a reservation, if there is one."""
    try:
        slurm.Reservation(name).delete()
    except slurm.RPCError as error:
        if error.errno != _RESERVATION_INVALID or _reservation(slurm, name) is not None:
            raise


def requeue_held(slurm: Any, job_id: int) -> None:
    """Requeue and hold; a job that waits already is only held."""
    try:
        if translate.job_state(slurm.Job.load(job_id).state) is not JobState.PENDING:
            slurm.Job(job_id).requeue(hold=True)
            return
    except slurm.RPCError as error:
        # Requeued before, and still COMPLETING on its old nodes.
        if error.errno != _JOB_PENDING:
            raise
    if slurm.Job.load(job_id).priority != 0:
        slurm.Job(job_id).hold()


def release(slurm: Any, job_id: int) -> None:
    """Release a job, if it is held."""
    job = slurm.Job.load(job_id)
    if job.priority == 0:
        job.release()


def send_signal(slurm: Any, job_id: int, signal: str) -> None:
    """Signal the batch script."""
    _clear_errno()  # pyslurm looks at errno alone, and a success leaves an old one there
    slurm.Job(job_id).send_signal(signal, steps="batch")


def set_admin_comment(slurm: Any, job_id: int, text: str) -> None:
    """Replace the admin_comment."""
    slurm.Job(job_id).modify(slurm.JobSubmitDescription(admin_comment=text))


def licenses(slurm: Any, job_id: int) -> str:
    """What a job asks for, as text."""
    return translate.licenses_text(slurm.Job.load(job_id).licenses)


def set_licenses(slurm: Any, job_id: int, text: str) -> None:
    """Replace what a job asks for."""
    slurm.Job(job_id).modify(slurm.JobSubmitDescription(licenses=text))


def reconfigure(slurm: Any) -> None:
    """Let slurmctld read its files again."""
    slurm.slurmctld.reconfigure()


CALLS: Mapping[str, Callable[..., Any]] = {
    each.__name__: each
    for each in (
        observe,
        set_fence,
        create_reservation,
        delete_reservation,
        requeue_held,
        release,
        send_signal,
        set_admin_comment,
        licenses,
        set_licenses,
        reconfigure,
    )
}


def _create(slurm: Any, name: str, settings: Mapping[str, Any]) -> None:
    _clear_errno()
    try:
        slurm.Reservation(name, **settings).create()
    except slurm.RPCError:
        # pyslurm believes errno, not slurmctld's answer: what is there was created.
        if _reservation(slurm, name) is None:
            raise


def _fence_settings(slurm: Any, nodes: tuple[str, ...]) -> Mapping[str, Any]:
    flags = slurm.ReservationFlags
    return {
        "nodes": compress(nodes),
        "users": ["root"],
        "start_time": int(_now().timestamp()),
        "end_time": int((_now() + _FENCE_LASTS).timestamp()),
        "flags": flags.MAINTENANCE | flags.IGNORE_RUNNING_JOBS,
    }


def _reservation_settings(slurm: Any, wanted: SlurmReservation) -> Mapping[str, Any]:
    flags = slurm.ReservationFlags
    return _owner_settings(wanted) | {
        "nodes": compress(wanted.nodes),
        "start_time": int(max(wanted.starts_at, _now()).timestamp()),
        "end_time": int(wanted.ends_at.timestamp()),
        # Its watts are those of its rack, so Slurm may not move it. A fence may lie over it
        # (MAINT), another reservation may not: so no OVERLAP.
        "flags": flags.STATIC_NODES | flags.IGNORE_RUNNING_JOBS,
    }


def _owner_settings(wanted: SlurmReservation) -> dict[str, Any]:
    owners = {"accounts": list(wanted.accounts), "users": list(wanted.users)}
    return {key: names for key, names in owners.items() if names}


def _reservation(slurm: Any, name: str) -> SlurmReservation | None:
    found = (each for each in slurm.Reservations.load().values() if each.name == name)
    return next(map(translate.reservation, found), None)


def _alike(found: SlurmReservation, wanted: SlurmReservation) -> bool:
    # Slurm keeps whole minutes.
    return (
        set(found.nodes) == set(wanted.nodes)
        and set(found.accounts) == set(wanted.accounts)
        and set(found.users) == set(wanted.users)
        and abs(found.ends_at - wanted.ends_at) < timedelta(minutes=1)
    )


def _clear_errno() -> None:
    location = ctypes.CDLL(None).__errno_location
    location.restype = ctypes.POINTER(ctypes.c_int)
    location()[0] = 0


def _now() -> datetime:
    return datetime.now(UTC)
