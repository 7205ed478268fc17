"""The documents name what the code has, and nothing else."""

import ast
import re
from pathlib import Path

import pytest

from model.dicom.rules import Rule
from service.errors import KeyReused, QueueFull
from service.intake.messages import REFUSALS
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


def refusal_codes() -> set[str]:
    """Every code that the way of a study into the service can give, besides those of `Rule`."""
    sources = [
        *(ROOT / "model" / "conditioning").glob("*.py"),
        *(ROOT / "service" / "intake").glob("*.py"),
        ROOT / "service" / "api" / "submission.py",
    ]
    calls = [
        node
        for source in sources
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
    ]
    given = {
        keyword.value.value
        for call in calls
        for keyword in call.keywords
        if keyword.arg == "code" and isinstance(keyword.value, ast.Constant)
    }
    # A class whose errors always name a rule of their own shows its code to nobody
    by_default = {error.code for error in (*REFUSALS.values(), KeyReused, QueueFull)} - {"study-invalid"}
    return given | by_default


def test_every_refusal_is_documented_once_and_nothing_else():
    text = (ROOT / "docs" / "refusals.md").read_text(encoding="utf-8")
    documented = [
        code
        for line in re.findall(r"^\| (?:\d+ \| )?(`[a-z`, -]+`) \|", text, re.MULTILINE)
        for code in re.findall(r"`([a-z-]+)`", line)
    ]
    assert len(documented) == len(set(documented))
    assert refusal_codes() | set(Rule) <= set(documented)
    # What the rest of the service answers may stand there, too
    elsewhere = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "service").rglob("*.py"))
    for code in set(documented) - refusal_codes() - set(Rule):
        assert f'"{code}"' in elsewhere, code


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
