import json
import logging

import pytest

from service.logs import JsonFormatter


def test_exceptions_are_logged_without_their_values() -> None:
    secret = "DOE^JOHN"
    with pytest.raises(ValueError, match="JOHN") as raised:
        float(secret)
    record = logging.LogRecord("x", logging.ERROR, "f", 1, "unexpected", (), raised._excinfo)
    record.job = "abc"
    line = JsonFormatter().format(record)
    assert secret not in line
    assert json.loads(line)["job"] == "abc"
    assert json.loads(line)["exception"]["type"] == "ValueError"
    assert "test_logs.py" in json.loads(line)["exception"]["at"][0]
