"""What becomes of other people's files: ``make dicom-table`` writes it into docs/dicom-files.md.

Each set goes through the process in which the API examines uploads, for all models that are shipped.
"""

import asyncio
import shutil
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from model.checkpoint.store import find_checkpoints
from model.dicom import read_study
from model.errors import DiffDPError, SiteError
from service.errors import ParametersError
from service.intake.examine import answer
from service.intake.examiner import SubprocessExaminer
from service.intake.limits import Limits
from service.intake.messages import KnownModel, Request
from service.jobs.job import Examination, Parameters
from service.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
DOCUMENT = ROOT / "docs" / "dicom-files.md"

GOOD = "hn-201"
"""The study beside which the malformed files are tried."""

LIMITS = Limits.of(Settings())
MODELS = {name: KnownModel.of(checkpoint.manifest) for name, checkpoint in find_checkpoints().items()}

INTRODUCTION = """# What becomes of files of real systems

Made by `make dicom-table` from files of planning systems and of other people's test collections, which are not part of
this repository. Each set was posted as it is; the examination is the one that `POST /v1/jobs` makes. The codes are
explained in [refusals.md](refusals.md), the choices in [studies.md](studies.md).
"""


@dataclass(frozen=True)
class Verdict:
    """What happened to one set of files.

    Parameters
    ----------
    name
        Of the archive, file or folder.
    models
        Those that can predict it; none if it was refused.
    code
        The rule by which it was refused, empty otherwise.
    reason
        What was found.
    warnings
        What was odd but usable; also of a study that was read in full and that no model knows.
    """

    name: str
    models: tuple[str, ...]
    code: str
    reason: str
    warnings: tuple[str, ...] = ()

    @property
    def outcome(self) -> str:
        """In one cell of a table."""
        return f"refused: `{self.code}`" if self.code else f"can be predicted by {', '.join(self.models)}"


def archives() -> list[Path]:
    """All archives but the one of malformed files."""
    found = [*sorted((SHARED / "dicom").glob("*.zip")), *sorted((SHARED / "studies").glob("*.zip"))]
    return [path for path in found if path.stem != "malformed"]


@contextmanager
def malformed() -> Iterator[list[Path]]:
    """Malformed files, and folders of series, for the time of a ``with`` block."""
    with unpacked(SHARED / "dicom" / "malformed.zip") as folder:
        yield sorted((folder / "malformed").iterdir())


@contextmanager
def unpacked(archive: Path) -> Iterator[Path]:
    """Folder with the files of an archive, for the time of a ``with`` block."""
    with TemporaryDirectory() as folder, zipfile.ZipFile(archive) as content:
        content.extractall(folder)
        yield Path(folder)


def files_of(path: Path) -> list[Path]:
    """Return the file itself, or the files of a folder, however deep."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def judge(path: Path) -> Verdict:
    """Post an archive, a file or the files of a folder."""
    name = path.stem if path.suffix == ".zip" else path.name
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number, file in enumerate(files_of(path)):
            shutil.copy(file, folder / f"{number:05d}{'.zip' if path.suffix == '.zip' else '.part'}")
        try:
            found = asyncio.run(SubprocessExaminer(MODELS, LIMITS)(folder, Parameters()))
        except ParametersError as error:
            if error.rule != "model-ambiguous":
                raise
            models = tuple(map(str, error.details["models"]))
            return Verdict(name, models, "", "the parameter `model` must say which")
        except SiteError as error:
            study = read_study(files_of(folder))
            reason = f"{study.grid.shape[0]} slices and {len(study.rois)} ROIs were read; {error.message}"
            return Verdict(name, (), error.rule, reason, study.warnings)
        except DiffDPError as error:
            return Verdict(name, (), error.rule, error.message)
    return Verdict(name, (found.model,), "", _described(found), found.warnings)


def judge_beside(path: Path, good: Sequence[Path]) -> Verdict:
    """Add a file, or the files of a folder, to a study that is good without, in this process, which is faster."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for number, file in enumerate([*good, *files_of(path)]):
            shutil.copy(file, folder / f"{number:05d}.part")
        result = answer(Request(folder=folder, parameters=Parameters(), models=MODELS, limits=LIMITS))
    if result.examination is None:
        assert result.refusal is not None
        return Verdict(path.name, (), result.refusal.code, result.refusal.message)
    found = result.examination
    return Verdict(path.name, (found.model,), "", _described(found), found.warnings)


def _described(found: Examination) -> str:
    doses = ", ".join(f"{name} {dose_gy:g} Gy" for name, dose_gy in found.prescription.dose_gy.items())
    organs = sum(structure.kind == "oar" for structure in found.structures)
    return f"{found.slices} slices; {doses} ({found.prescription.source}); {organs} organs"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |\n" for line in lines)


def document(sets: Sequence[Verdict], alone: Sequence[Verdict], beside: Sequence[Verdict]) -> str:
    """Return docs/dicom-files.md.

    Parameters
    ----------
    sets
        Verdicts on the archives.
    alone, beside
        Verdicts on the malformed files, posted alone and with a good study.
    """
    return "\n".join(
        [
            INTRODUCTION,
            "## Sets of planning systems\n",
            table(
                ("set", "what happened", "why", "warnings"),
                [(f"`{v.name}`", v.outcome, v.reason, "; ".join(v.warnings)) for v in sets],
            ),
            "## Broken, rare and hostile files\n",
            f"Each was posted alone, and together with the study `{GOOD}`.\n",
            table(
                ("file or series", "alone", "why", f"with `{GOOD}`", "warnings, or why"),
                [
                    (f"`{a.name}`", a.outcome, a.reason, b.outcome, b.reason if b.code else "; ".join(b.warnings))
                    for a, b in zip(alone, beside, strict=True)
                ],
            ),
        ]
    )


def judge_all() -> tuple[list[Verdict], list[Verdict], list[Verdict]]:
    """Return verdicts on all archives, and on all malformed files alone and beside a good study."""
    sets = [judge(path) for path in archives()]
    with malformed() as paths, unpacked(SHARED / "studies" / f"{GOOD}.zip") as good:
        return sets, [judge(path) for path in paths], [judge_beside(path, files_of(good)) for path in paths]


if __name__ == "__main__":
    DOCUMENT.write_text(document(*judge_all()), encoding="utf-8")
