"""Things that tests of several packages share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.case import Case
from model.checkpoint.manifest import Manifest
from model.dicom.export import write_study
from tests.servers import S3, Postgres, postgres_programs
from tests.tiny import tiny_manifest, tiny_rectum, tiny_rectum_manifest, write_tiny_model

DATABASES = ("sqlite", "postgresql") if postgres_programs() or os.environ.get("CI") else ("sqlite",)
"""PostgreSQL is tried wherever it is installed; where CI is set its absence is a failure."""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "every_database: the test depends on the job database, so it runs on each")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "database" in metafunc.fixturenames:
        chosen = DATABASES if metafunc.definition.get_closest_marker("every_database") else DATABASES[:1]
        metafunc.parametrize("database", chosen)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server of the tests' own."""
    server = Postgres()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    """An S3 server of the tests' own."""
    server = S3()
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session", name="tiny_manifest")
def tiny_manifest_of_tests() -> Manifest:
    """Head-and-neck conditioning with a network that is as small as it can be."""
    return tiny_manifest()


@pytest.fixture(scope="session")
def tiny_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of two checkpoints with random weights: tiny, for head and neck, and tiny-rectum."""
    folder = tmp_path_factory.mktemp("models")
    write_tiny_model(folder)
    write_tiny_model(folder, tiny_rectum_manifest())
    return folder


@pytest.fixture(scope="session")
def rectum_case() -> Case:
    """A simulated rectum patient with a plan's dose."""
    return tiny_rectum()


@pytest.fixture(scope="session")
def rectum_study(rectum_case: Case, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of that patient's CT, RTSTRUCT, RTPLAN and RTDOSE."""
    folder = tmp_path_factory.mktemp("rectum") / "study"
    write_study(rectum_case, folder)
    return folder
