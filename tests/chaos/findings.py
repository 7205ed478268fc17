"""What must be true when all is over."""

import hashlib
import io
import json
import zipfile
from collections import Counter, defaultdict
from dataclasses import dataclass

import httpx
import pydicom
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from service.jobs.outbox import DeliveryState
from service.jobs.states import FINAL, State
from service.jobs.tables import DeliveryRow, EventRow, JobRow
from service.storage.layout import STUDY
from tests.chaos.caller import Caller, Receiver
from tests.chaos.stack import Stack

STAGES = 3


@dataclass(frozen=True)
class Findings:
    """Faults, each as a sentence, and figures."""

    faults: list[str]
    stages_again: int
    calls_again: int


def examine(stack: Stack, engine: Engine, caller: Caller, receiver: Receiver, jobs: int) -> Findings:
    """Look at everything that the service has made and left."""
    faults: list[str] = []
    with Session(engine) as session:
        rows = {row.id: row for row in session.scalars(select(JobRow))}
        events = defaultdict(list)
        for event in session.scalars(select(EventRow).order_by(EventRow.revision)):
            events[event.job_id].append(State(event.snapshot["state"]))
        deliveries = list(session.scalars(select(DeliveryRow)))

    if len(caller.accepted) != jobs:
        faults.append(f"{len(caller.accepted)} jobs were accepted, {jobs} were posted")
    faults += [f"{job_id} was accepted and is not there" for job_id in caller.accepted if job_id not in rows]
    faults += [f"{job_id} is there and nobody knows of it" for job_id in rows if job_id not in caller.accepted]
    for job_id, row in rows.items():
        ends = [state for state in events[job_id] if state in FINAL]
        if row.state != State.SUCCEEDED:
            faults.append(f"{job_id} is {row.state}: {row.error}")
        if len(ends) != 1 or events[job_id][-1] != ends[0]:
            faults.append(f"{job_id} ended {len(ends)} times")
        if row.lease_owner is not None:
            faults.append(f"{job_id} has still a lease")
    faults += _results(stack, caller)
    faults += _leavings(stack, rows)

    calls = Counter({job_id: len(ids) for job_id, ids in receiver.calls.items()})
    faults += [f"{job_id} was not called back" for job_id in rows if not calls[job_id]]
    faults += [f"{job_id} has several calls back" for job_id, ids in receiver.calls.items() if len(set(ids)) > 1]
    faults += [f"a call back is {one.state}" for one in deliveries if one.state != DeliveryState.DELIVERED]
    return Findings(
        faults,
        stages_again=sum(row.lease_token for row in rows.values()) - STAGES * len(rows),
        calls_again=sum(calls.values()) - len(calls),
    )


def _results(stack: Stack, caller: Caller) -> list[str]:
    """Fetch every result; those of one study and seed must have the same dose."""
    faults, doses = [], defaultdict(set)
    for job_id, kind in caller.accepted.items():
        answer = httpx.get(f"{stack.address}/v1/jobs/{job_id}/archive", timeout=60)
        if not answer.is_success:
            faults.append(f"{job_id} has no archive: {answer.status_code}")
            continue
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            if archive.testzip() is not None:
                faults.append(f"{job_id} has a damaged archive")
                continue
            dose = pydicom.dcmread(io.BytesIO(archive.read("dose.dcm")))
            if json.loads(archive.read("report.json"))["metadata"]["job_id"] != job_id:
                faults.append(f"{job_id} has the report of another job")
        doses[kind].add((float(dose.DoseGridScaling), hashlib.sha256(dose.PixelData).hexdigest()))
    return faults + [
        f"study and seed {kind} have {len(found)} doses" for kind, found in doses.items() if len(found) > 1
    ]


def _leavings(stack: Stack, rows: dict[str, JobRow]) -> list[str]:
    storage = stack.settings.data_dir / "storage"
    faults = [f"half-written: {path.name}" for path in (storage / "unfinished").iterdir()]
    for folder in (storage / "jobs").iterdir():
        found = sorted(path.name for path in folder.iterdir())
        if folder.name not in rows:
            faults.append(f"{folder.name} belongs to no job")
        elif found != sorted([rows[folder.name].outputs.get("publish", ""), STUDY]):
            faults.append(f"{folder.name} holds {found}")
    if not stack.broker_is_empty():
        faults.append("the broker still holds messages")
    return faults
