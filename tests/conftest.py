"""Things that tests of several packages share."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from model.checkpoint.manifest import Manifest
from tests.servers import S3, Postgres, postgres_programs
from tests.tiny import tiny_manifest, write_tiny_model

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
    """Folder of checkpoints that holds one, named tiny, with random weights."""
    folder = tmp_path_factory.mktemp("models")
    write_tiny_model(folder)
    return folder
