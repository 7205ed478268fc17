"""The JSON schema of reports; `python -m service.reports.schema` writes it, as `make report-schema` does."""

import json
import sys
from pathlib import Path
from typing import Any

from service.reports.content import Report


def report_schema() -> dict[str, Any]:
    """Return the schema of what `Report.model_dump_json` writes (JSON Schema 2020-12)."""
    schema = Report.model_json_schema(mode="serialization")
    return schema | {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "DiffDP report 2.0"}


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps(report_schema(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
