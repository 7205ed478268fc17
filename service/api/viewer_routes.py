"""What the page draws of a patient: CT, dose and structures as compact arrays."""

from typing import Literal

from fastapi import APIRouter
from fastapi.responses import FileResponse

from service.api.context import JobId, PartsOf
from service.api.job_routes import result_file
from service.pipeline.view import View
from service.storage.layout import VIEW, VIEW_ARRAYS

GZIP = "application/gzip"

router = APIRouter(prefix="/v1/jobs/{job_id}/viewer", tags=["viewer"])


@router.get("", summary="How to read the arrays", response_class=FileResponse, responses={200: {"model": View}})
def get_view(job_id: JobId, parts: PartsOf) -> FileResponse:
    """Return shape, spacing, start, units and structures of a job's arrays."""
    return result_file(parts, job_id, VIEW, "application/json")


@router.get(
    "/{array}",
    summary="Fetch an array",
    response_class=FileResponse,
    responses={200: {"content": {GZIP: {"schema": {"type": "string", "format": "binary"}}}}},
)
def get_array(job_id: JobId, array: Literal["ct", "dose", "reference", "structures"], parts: PartsOf) -> FileResponse:
    """Return CT, dose, the study's own dose or masks, compressed by gzip; `reference` only if the study has a dose."""
    return result_file(parts, job_id, VIEW_ARRAYS[array], GZIP)
