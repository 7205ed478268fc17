"""The service's figures as Prometheus reads them.

Those of jobs, workers and stages come from the database, so that any API process tells the same and a worker needs no
port of its own; those of requests are the process's own. Labels are states, stages, codes, routes and GPUs, never jobs
or callers.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeVar

from prometheus_client import ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector, CollectorRegistry
from sqlalchemy.exc import SQLAlchemyError

from service.about import software_version
from service.api.context import Service
from service.jobs.figures import BEYOND, BOUNDS_S, SUM, Counted, Figures, Tally
from service.jobs.states import FINAL, Stage

Label = TypeVar("Label", bound=str)

OUR_FAULTS = ("quarantined", "internal", "dose-not-finite", "out-of-memory")
"""Codes of failures that are not the study's."""

COUNTS: Mapping[Tally, tuple[str, str, str, Iterable[str]]] = {
    Tally.ENDED: ("diffdp_jobs_ended", "Jobs that came to an end, by state.", "state", FINAL),
    Tally.FAILED: ("diffdp_jobs_failed", "Jobs that failed, by the code of their error.", "code", OUR_FAULTS),
    Tally.LEASE_LOST: ("diffdp_leases_lost", "Leases that ran out: workers killed or cut off.", "stage", Stage),
    Tally.GIVEN_BACK: ("diffdp_attempts_given_back", "Attempts that an error of the machine ended.", "stage", Stage),
}
"""The last are labels told before there is anything to count: Prometheus sees no increase in a figure's first value."""
TIMES = {
    Tally.STAGE_SECONDS: ("diffdp_stage_seconds", "Times of stages that ended well.", ["stage"]),
    Tally.JOB_SECONDS: ("diffdp_job_seconds", "Times from post or requeue to the end of jobs that succeeded.", []),
}


class ServiceCollector(Collector):
    """Reads the figures whenever they are asked for.

    Parameters
    ----------
    checks
        Name of a check of readiness → whether it passes now.
    silent_s
        A worker not heard of for so long counts as gone.
    """

    def __init__(self, service: Service, checks: Callable[[], Mapping[str, bool]], *, silent_s: float) -> None:
        self._service = service
        self._checks = checks
        self._silent_s = silent_s

    def collect(self) -> Iterator[Metric]:
        """Return all figures; only how ready the service is, and why not, while the database is away."""
        yield _gauge("diffdp_ready", "Whether a check of readiness passes.", ["check"], self._checks())
        version = GaugeMetricFamily("diffdp_version", "1, with the version of the API.", labels=["version"])
        version.add_metric([software_version()], 1)
        yield version
        yield GaugeMetricFamily("diffdp_room_bytes", "How large a study could be taken in.", self._room())
        try:
            figures = self._service.jobs.figures(silent_s=self._silent_s)
            callbacks = self._service.outbox.counts()
        except SQLAlchemyError:
            return
        yield _gauge("diffdp_callbacks", "Calls back by state.", ["state"], callbacks)
        yield from _jobs(figures)
        yield from _counted(figures.counted)

    def _room(self) -> float:
        try:
            return self._service.storage.room_bytes()
        except OSError:
            return 0.0

    def describe(self) -> Iterable[Metric]:
        """Say nothing: the registry need not read the database in order to know the names."""
        return []


def install(registry: CollectorRegistry, collector: Collector) -> None:
    """Add the service's figures and those of this process to a registry."""
    registry.register(collector)
    ProcessCollector(registry=registry)


def _jobs(figures: Figures) -> Iterator[Metric]:
    queues = figures.queues.items()
    yield _gauge("diffdp_jobs", "Jobs by state.", ["state"], figures.jobs)
    yield _gauge("diffdp_queue_depth", "Jobs that wait for a stage.", ["stage"], {s: q.waiting for s, q in queues})
    oldest = {stage: queue.oldest_s for stage, queue in queues}
    yield _gauge("diffdp_queue_oldest_seconds", "For how long the first of them waits.", ["stage"], oldest)
    yield _gauge("diffdp_stage_working", "Jobs that a worker is at.", ["stage"], {s: q.working for s, q in queues})
    yield _gauge("diffdp_workers", "Workers heard of lately that serve a stage.", ["stage"], figures.workers)
    memory = GaugeMetricFamily("diffdp_gpu_memory_bytes", "Memory of workers' GPUs.", labels=["gpu", "kind"])
    for gpu in figures.gpus:
        memory.add_metric([gpu.uuid, "used"], gpu.used_bytes)
        memory.add_metric([gpu.uuid, "total"], gpu.total_bytes)
    yield memory


def _gauge(name: str, text: str, labels: list[str], values: Mapping[Label, float]) -> Metric:
    gauge = GaugeMetricFamily(name, text, labels=labels)
    for label, value in values.items():
        gauge.add_metric([str(label)], value)
    return gauge


def _counted(counted: Counted) -> Iterator[Metric]:
    for tally, (name, text, label_name, always) in COUNTS.items():
        counter = CounterMetricFamily(name, text, labels=[label_name])
        for label in sorted({str(label) for label in always} | {label for kind, label in counted if kind is tally}):
            counter.add_metric([label], counted.get((tally, label), {}).get("", 0.0))
        yield counter
    for tally, (name, text, names) in TIMES.items():
        histogram = HistogramMetricFamily(name, text, labels=names)
        for (kind, label), parts in counted.items():
            if kind is tally:
                histogram.add_metric([label] if names else [], *_classes(parts))
        yield histogram


def _classes(parts: Mapping[str, float]) -> tuple[list[tuple[str, float]], float]:
    """Return the counts up to each bound, as Prometheus wants them, and the sum."""
    classes, total = [], 0.0
    for bound in (*map(str, BOUNDS_S), BEYOND):
        total += parts.get(bound, 0.0)
        classes.append((bound, total))
    return classes, parts.get(SUM, 0.0)
