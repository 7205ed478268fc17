"""Every answer forbids browsers what it does not need, whatever kind of answer it is."""

import pytest
from fastapi.testclient import TestClient

ZIP = {"Content-Type": "application/zip"}


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/openapi.json", "/healthz", "/metrics", "/v1/jobs", "/v1/jobs/none", "/x"]
)
def test_every_answer_is_protected(client: TestClient, path: str) -> None:
    headers = client.get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Frame-Options"] == "DENY"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "script-src" not in policy or "script-src 'self';" in policy
    assert "Strict-Transport-Security" not in headers


def test_an_unexpected_error_is_protected_too(client: TestClient) -> None:
    answer = client.post("/v1/jobs", content=b"break", headers=ZIP)
    assert answer.status_code == 500
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_behind_tls_browsers_are_told_to_stay_there(make_client) -> None:
    assert make_client(hsts_s=600).get("/").headers["Strict-Transport-Security"] == "max-age=600"
