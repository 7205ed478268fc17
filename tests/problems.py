"""How tests read the problems that the API answers with."""


def problem(answer, status: int, code: str) -> dict[str, object]:
    assert answer.headers["Content-Type"] == "application/problem+json"
    body = answer.json()
    assert (answer.status_code, body["status"], body["code"]) == (status, status, code)
    assert body["type"] == f"urn:diffdp:{code}"
    return body
