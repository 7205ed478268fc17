"""The documents name what the code has, and nothing else."""

import re
from pathlib import Path

import pytest

from model.dicom.rules import Rule
from service.settings import PREFIX, Settings

ROOT = Path(__file__).resolve().parents[2]


def first_cells(document: str, pattern: str) -> list[str]:
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    return re.findall(rf"^\| `({pattern})` \|", text, re.MULTILINE)


def test_settings():
    assert first_cells("operating.md", PREFIX + r"\w+") == [PREFIX + name.upper() for name in Settings.model_fields]


@pytest.mark.parametrize("rule", Rule)
def test_rule_of_the_intake(rule):
    text = (ROOT / "docs" / "refusals.md").read_text(encoding="utf-8")
    assert f"| `{rule}` | {rule.meaning} |" in text


@pytest.mark.parametrize(
    "document", sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md"))
)
def test_links_and_paths_exist(document):
    path = ROOT / document
    text = path.read_text(encoding="utf-8")
    for link in re.findall(r"\]\(([^)#:]+)[^):]*\)", text):
        assert (path.parent / link).exists(), link
    for place in re.findall(r"`((?:model|service|docker|tests)/[\w/.]+)`", text):
        assert (ROOT / place).exists(), place
