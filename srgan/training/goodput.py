"""Goodput: the share of a run's time in which steps were computed that the run kept."""

import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from typing import Any, NamedTuple

from data_pipeline.platform.errors import JobFailedError, UserError
from data_pipeline.platform.progress import duration
from data_pipeline.platform.storage import Storage
from srgan.metrics_log import read_metrics
from srgan.run_layout import GOODPUT_KEY
from srgan.training.lease import Lease
from srgan.training.totals import USES, percentages

_log = logging.getLogger(__name__)


class Job(NamedTuple):
    """One `jobs.train` of a run.

    Attributes:
        began: When, in seconds since 1970.
        ended: Likewise; None for a job that was killed, or that still trains.
    """

    began: float
    ended: float | None


class Goodput(NamedTuple):
    """Where a run's seconds went.

    Attributes:
        uses: Seconds by USES, summed over the finished epochs.
        lost: The other seconds: jobs begin and end, workers start, work is lost and done again.
        paused: Seconds between a job that ended and the next one. They are not in the total.
    """

    uses: dict[str, float]
    lost: float
    paused: float

    @property
    def total(self) -> float:
        """All seconds but the paused ones."""
        return sum(self.uses.values()) + self.lost

    @property
    def share(self) -> float:
        """Seconds of useful steps over all seconds, in [0, 1]."""
        return self.uses["compute"] / self.total


def goodput(jobs: Sequence[Job], records: Sequence[Mapping[str, Any]]) -> Goodput:
    """Computes a finished run's goodput.

    An epoch's line counts every step of the epoch once, also where the run was killed in it. So
    steps that were done again are useful once, and lost once.

    A job's time lasts until its end. A job that was killed has none: its time lasts until the next
    job begins, since nobody stopped it.

    Args:
        jobs: All of the run, in their order; the last one has ended.
        records: The lines of metrics.jsonl. Lines of versions that did not know `compute_seconds`
            are of jobs that are not known either, and do not count.
    """
    total = paused = 0.0
    for job, later in zip_longest(jobs, jobs[1:]):
        end = later.began if job.ended is None else job.ended
        total += end - job.began
        paused += later.began - end if later else 0.0
    known = [record for record in records if "compute_seconds" in record]
    uses = {use: sum(record[f"{use}_seconds"] for record in known) for use in USES}
    return Goodput(uses, max(0.0, total - sum(uses.values())), paused)


@contextmanager
def recorded_job(run: Storage, lease: Lease, began: float) -> Iterator[None]:
    """Notes in RUN's goodput.json when a job begins and ends; at the run's end also the goodput.

    The block trains to the run's end, or raises. The job began at `began`, by time.time.
    """
    jobs = [*_read_jobs(run), Job(began, None)]
    _write(run, jobs)
    try:
        yield
    except BaseException:
        try:
            if lease.is_held():
                _write(run, _ended(jobs))
        except (UserError, JobFailedError, OSError) as error:  # the block's own error tells more
            _log.warning("%s; this job's end is not noted for the goodput", error)
        raise
    jobs = _ended(jobs)
    found = goodput(jobs, read_metrics(run))
    _write(run, jobs, found)
    _log.info("%s", describe(found, len(jobs)))


def describe(found: Goodput, jobs: int) -> str:
    """One line for people."""
    names = [*USES.values(), "starts, ends and lost work"]
    shares = percentages([*found.uses.values(), found.lost])
    paused = f"; {duration(found.paused)} between jobs do not count" if found.paused else ""
    return (
        f"goodput {100 * found.share:.1f} %: {found.uses['compute']:.1f} s of useful steps in "
        f"{found.total:.1f} s of {jobs} job(s) ("
        + ", ".join(f"{name} {share:.1f} %" for name, share in zip(names, shares, strict=True))
        + f"){paused}"
    )


def _ended(jobs: Sequence[Job]) -> list[Job]:
    return [*jobs[:-1], jobs[-1]._replace(ended=time.time())]


def _read_jobs(run: Storage) -> list[Job]:
    if run.size(GOODPUT_KEY) is None:
        return []
    return [Job(**job) for job in json.loads(run.read(GOODPUT_KEY))["jobs"]]


def _write(run: Storage, jobs: Sequence[Job], found: Goodput | None = None) -> None:
    content: dict[str, Any] = {"jobs": [job._asdict() for job in jobs]}
    if found:
        content |= {
            "goodput": round(found.share, 4),
            "seconds": {
                name: round(seconds, 3)
                for name, seconds in {**found.uses, "lost": found.lost}.items()
            },
            "paused_seconds": round(found.paused, 3),
        }
    run.write(GOODPUT_KEY, json.dumps(content, indent=1).encode())
