"""Callers of several tenants."""

from collections.abc import Callable

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine

from service.access.caller import Scope
from service.access.keys import KeyStore

MakeCaller = Callable[..., TestClient]


@pytest.fixture
def keys(engine: Engine, clock) -> KeyStore:
    return KeyStore(engine, clock)


@pytest.fixture
def make_caller(make_client, keys: KeyStore) -> MakeCaller:
    """Make a client that shows a key of its own for a tenant; by default with all that the API asks for."""

    def make(tenant: str, scopes: tuple[Scope, ...] = tuple(Scope), **settings: object) -> TestClient:
        shown, _ = keys.create("test", tenant, scopes)
        client = make_client(**settings)
        client.headers["Authorization"] = f"Bearer {shown}"
        return client

    return make
