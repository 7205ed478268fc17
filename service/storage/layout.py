"""Which keys and files a job has in storage."""

from service.storage.folders import Storage

STUDY = "study"
"""Folder of a job with the files of its study."""

DOSE, PLAN = "dose.dcm", "plan.dcm"
REPORT_JSON, REPORT_HTML, REPORT_CSV, REPORT_PDF = "report.json", "report.html", "report.csv", "report.pdf"
RESULTS = (DOSE, PLAN, REPORT_JSON, REPORT_HTML, REPORT_CSV, REPORT_PDF)
ARCHIVE = "archive.zip"
"""All of the results in one."""

VIEW = "view.json"
VIEW_ARRAYS = {name: f"view-{name}.gz" for name in ("ct", "dose", "reference", "structures")}
"""What the page shows of a patient, see `service.pipeline.view`."""


def job_key(job_id: str, *parts: str) -> str:
    """Storage key of a job, or of something below it."""
    return "/".join(("jobs", job_id, *parts))


def output_name(stage: str, token: int) -> str:
    """Name of the folder for what a stage makes under the lease with a token."""
    return f"{stage}-{token}"


def tidy(storage: Storage, job_id: str, *, keep: str | None, token: int) -> None:
    """Delete what an ended job no longer needs: all but the study and the folder with its results.

    Parameters
    ----------
    token
        Of the job's last lease. The folders of later leases stay: the job was requeued meanwhile.
    """
    for name in storage.children(job_key(job_id)):
        if name not in {STUDY, keep} and int(name.rpartition("-")[2]) <= token:
            storage.delete(job_key(job_id, name))
