import importlib
import pkgutil
from collections.abc import Iterator

import pytest

import model
import service
from model.errors import DiffDPError
from service.api.problems import status_of


def all_errors(base: type[DiffDPError] = DiffDPError) -> Iterator[type[DiffDPError]]:
    yield base
    for below in base.__subclasses__():
        yield from all_errors(below)


def import_everything() -> None:
    for package in (model, service):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)


def test_the_whole_tree_has_codes_and_only_our_own_faults_are_5xx() -> None:
    import_everything()
    found = set(all_errors())
    statuses = {error.__name__: int(status_of(error)) for error in found}
    callers_fault = {name for name, status in statuses.items() if 400 <= status < 500}
    assert all(error.code and error.code == error.code.lower() for error in found)
    assert statuses["StudyError"] == statuses["SiteError"] == statuses["StudyUnreadable"] == 422
    assert set(statuses) - callers_fault == {
        "AuditBroken",
        "DiffDPError",
        "Cancelled",
        "CheckpointError",
        "DatasetError",
        "DeviceError",
        "GoalsError",
        "IssuerUnavailable",
        "JobFailed",
        "LeaseLost",
        "PredictionError",
    }


def test_codes_are_unique() -> None:
    import_everything()
    codes = [error.code for error in all_errors()]
    assert sorted(codes) == sorted(set(codes))


@pytest.mark.parametrize(
    ("name", "status"),
    [("UploadError", 400), ("UploadTooLarge", 413), ("MediaTypeError", 415), ("JobPurged", 410), ("QueueFull", 429)],
)
def test_statuses_of_the_contract(name: str, status: int) -> None:
    errors = importlib.import_module("service.errors")
    assert status_of(getattr(errors, name)) == status
