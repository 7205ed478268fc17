"""Examination: in this process for its decisions, in one of its own for its robustness."""

import asyncio
import json
import os
import shutil
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from model.checkpoint.manifest import Manifest
from model.errors import DiffDPError, SiteError, StudyError
from service.errors import ParametersError, StudyUnreadable, UploadError
from service.intake.examine import answer, choose_sampling, examine, unpack_uploads
from service.intake.examiner import SubprocessExaminer
from service.intake.limits import Limits
from service.intake.messages import KnownModel, Request
from service.jobs.job import Parameters

LIMITS = Limits(
    max_body_bytes=2**30, max_expanded_bytes=2**30, max_ratio=200, max_files=5000, timeout_s=60, memory_bytes=2**32
)
SHARED = Path(__file__).resolve().parents[3] / "../shared/dicom"


@pytest.fixture(scope="module")
def models(tiny_manifest: Manifest) -> dict[str, KnownModel]:
    return {"tiny": KnownModel.of(tiny_manifest)}


def other_site(known: KnownModel) -> KnownModel:
    """Same model for another part of the body."""
    organs = tuple(organ.model_copy(update={"name": f"X{organ.name}", "synonyms": ()}) for organ in known.site.organs)
    return known.model_copy(update={"site": known.site.model_copy(update={"organs": organs, "name": "elsewhere"})})


def test_a_study_is_understood(study: Path, models: Mapping[str, KnownModel]) -> None:
    found = examine(list(study.iterdir()), models, Parameters(seed=7))
    assert found.model == "tiny"
    assert found.slices == len(list(study.glob("CT*")))
    assert found.prescription.dose_gy == {"PTV_7000": 70.0, "PTV_6300": 63.0, "PTV_5600": 56.0}
    assert found.prescription.source == "plan"
    assert {s.name: s.kind for s in found.structures if s.kind != "oar"} == {
        "External": "external",
        "PTV_7000": "target",
        "PTV_6300": "target",
        "PTV_5600": "target",
    }
    assert found.sampling.model_dump() == {"sampler": "coarse-ddim", "steps": 2, "samples": 1, "seed": 7}


def test_the_only_model_that_knows_the_site_is_taken(study: Path, models: Mapping[str, KnownModel]) -> None:
    files = list(study.iterdir())
    assert examine(files, {"a": other_site(models["tiny"]), **models}, Parameters()).model == "tiny"
    with pytest.raises(ParametersError) as error:
        examine(files, {"twin": models["tiny"], **models}, Parameters())
    assert error.value.rule == "model-ambiguous"
    assert examine(files, {"twin": models["tiny"], **models}, Parameters(model="twin")).model == "twin"
    with pytest.raises(ParametersError) as error:
        examine(files, models, Parameters(model="absent"))
    assert error.value.rule == "model-unknown"


def test_if_no_model_knows_the_site_each_says_what_it_lacks(study: Path, models: Mapping[str, KnownModel]) -> None:
    strangers = {"a": other_site(models["tiny"]), "b": other_site(models["tiny"])}
    with pytest.raises(SiteError, match="XBrainstem") as error:
        examine(list(study.iterdir()), strangers, Parameters())
    assert set(error.value.details) == {"a", "b"}


def test_parameters_win_over_the_plan(study: Path, models: Mapping[str, KnownModel]) -> None:
    doses = {"PTV_7000": 66.0, "PTV_6300": 60.0, "PTV_5600": 54.0}
    found = examine(list(study.iterdir()), models, Parameters(prescription_gy=doses, fractions=33))
    assert (found.prescription.dose_gy, found.prescription.fractions) == (doses, 33)
    assert found.prescription.source == "parameter"
    assert any("the parameter is used" in warning for warning in found.warnings)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("coarse-ddim", 2)),
        ({"steps": 9}, ("coarse-ddim", 9)),
        ({"sampler": "ddim"}, ("ddim", 2)),
        ({"sampler": "ancestral"}, ("ancestral", 1000)),
        ({"sampler": "ancestral", "steps": 10}, ("ancestral", 1000)),
        ({"sampler": "coarse"}, ("coarse", 1)),
    ],
)
def test_sampling_is_completed_from_the_model(models, given, expected) -> None:
    sampling = choose_sampling(models["tiny"], Parameters(**given))
    assert (sampling.sampler, sampling.steps) == expected


@pytest.mark.parametrize(
    ("given", "rule"),
    [
        ({"steps": 251}, "steps-too-many"),
        ({"sampler": "regression"}, "sampler-unknown"),
        ({"sampler": "coarse", "samples": 2}, "samples-alike"),
    ],
)
def test_sampling_that_the_model_cannot_do_is_refused(models: Mapping[str, KnownModel], given, rule) -> None:
    with pytest.raises(ParametersError) as refused:
        choose_sampling(models["tiny"], Parameters(**given))
    assert refused.value.rule == rule


def test_one_sample_is_enough_where_chance_has_no_part(models: Mapping[str, KnownModel]) -> None:
    averaging = models["tiny"].model_copy(
        update={"defaults": models["tiny"].defaults.model_copy(update={"samples": 4})}
    )
    assert choose_sampling(averaging, Parameters()).samples == 4
    assert choose_sampling(averaging, Parameters(sampler="coarse")).samples == 1


def test_several_uploads_are_not_unpacked(tmp_path: Path) -> None:
    for name in ("00000.part", "00001.part"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr("x", b"x")
    assert [path.name for path in unpack_uploads(tmp_path, LIMITS)] == ["00000.part", "00001.part"]


def test_what_calls_itself_an_archive_must_be_one(tmp_path: Path) -> None:
    (tmp_path / "00000.zip").write_bytes(b"DICOM")
    with pytest.raises(UploadError):
        unpack_uploads(tmp_path, LIMITS)


def in_subprocess(folder: Path, models: Mapping[str, KnownModel], limits: Limits = LIMITS):
    return asyncio.run(SubprocessExaminer(models, limits)(folder, Parameters()))


def test_the_subprocess_comes_to_the_same_result(study: Path, models: Mapping[str, KnownModel], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "00000.zip", "w") as archive:
        for path in study.iterdir():
            archive.write(path, f"DOE^JOHN/{path.name}")
    found = in_subprocess(tmp_path, models)
    assert found == examine(list(study.iterdir()), models, Parameters())
    assert len(list(tmp_path.glob("*.dcm"))) == len(list(study.iterdir()))
    assert not (tmp_path / "00000.zip").exists()


def test_refusals_cross_the_process_boundary(study: Path, models: Mapping[str, KnownModel], tmp_path: Path) -> None:
    shutil.copy(study / "RS.dcm", tmp_path / "00000.part")
    with pytest.raises(StudyError) as error:
        in_subprocess(tmp_path, models)
    assert error.value.rule == "no-ct"


def test_too_much_memory_is_a_refusal(study: Path, models: Mapping[str, KnownModel], tmp_path: Path) -> None:
    with (tmp_path / "00000.part").open("wb") as file:
        file.write((study / "CT.000.dcm").read_bytes())
        file.truncate(2**30)
    with pytest.raises(StudyError):
        in_subprocess(tmp_path, models, LIMITS.model_copy(update={"memory_bytes": 2**29}))


def test_too_much_time_is_a_refusal(models: Mapping[str, KnownModel], tmp_path: Path) -> None:
    # Whoever opens a pipe that nobody writes to waits for ever
    os.mkfifo(tmp_path / "00000.part")
    with pytest.raises(StudyUnreadable):
        in_subprocess(tmp_path, models, LIMITS.model_copy(update={"timeout_s": 1}))


def test_whatever_breaks_the_reader_is_a_refusal_without_values(models, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "00000.part").write_bytes(b"x")

    def broken(paths: object) -> None:
        raise KeyError("DOE^JOHN")

    monkeypatch.setattr("service.intake.examine.read_study", broken)
    refusal = answer(Request(folder=tmp_path, parameters=Parameters(), models=models, limits=LIMITS)).refusal
    assert refusal.code == "study-unreadable"
    assert "DOE" not in refusal.model_dump_json()


EXPECTED = {
    "raystation-cheese": "missing-slice",
    "eclipse-prostate-radonc": "site-unknown",
    "eclipse-breast": "site-unknown",
    "onkodicom-02": "site-unknown",
    "monaco-tg119": "no-ct",
    "uid-zero-ct": "no-structure-set",
    "malformed": "damaged-file",
}


@pytest.mark.skipif(not SHARED.is_dir(), reason="the files of real systems are not here")
@pytest.mark.parametrize("name", EXPECTED)
def test_studies_of_real_systems_are_refused_for_the_right_reason(models, tmp_path: Path, name: str) -> None:
    shutil.copy(SHARED / f"{name}.zip", tmp_path / "00000.zip")
    with pytest.raises(DiffDPError) as error:
        examine(unpack_uploads(tmp_path, LIMITS), models, Parameters())
    assert error.value.rule == EXPECTED[name]
    assert json.dumps(error.value.details)
