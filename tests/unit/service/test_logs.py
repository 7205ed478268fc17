import json
import logging
import warnings

import pytest

from service import logs
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


@pytest.mark.filterwarnings("default")
def test_libraries_that_quote_values_are_not_heard(capsys, monkeypatch) -> None:
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [])
    monkeypatch.setattr(root, "level", root.level)
    try:
        logs.configure("INFO")
        warnings.warn("Invalid value for VR DA: 1960", stacklevel=1)
        logging.getLogger("pydicom").warning("DOE^JOHN")
        logging.getLogger("service").info("begun")
    finally:
        logging.captureWarnings(capture=False)
        root.handlers.clear()
    (line,) = capsys.readouterr().err.splitlines()
    assert json.loads(line)["message"] == "begun"
