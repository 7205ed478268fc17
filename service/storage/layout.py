"""Which keys and files a job has in storage."""

from service.storage.folders import Storage

STUDY = "study"
"""Folder of a job with the files of its study."""

DOSE, PLAN = "dose.dcm", "plan.dcm"
REPORT_JSON, REPORT_HTML, REPORT_CSV = "report.json", "report.html", "report.csv"
RESULTS = (DOSE, PLAN, REPORT_JSON, REPORT_HTML, REPORT_CSV)
ARCHIVE = "archive.zip"
"""All of the results in one."""


def job_key(job_id: str, *parts: str) -> str:
    """Storage key of a job, or of something below it."""
    return "/".join(("jobs", job_id, *parts))


def tidy(storage: Storage, job_id: str, keep: str | None) -> None:
    """Delete what a finished job no longer needs: all but the study and the folder with its results."""
    for name in storage.children(job_key(job_id)):
        if name not in {STUDY, keep}:
            storage.delete(job_key(job_id, name))
