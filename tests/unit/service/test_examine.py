"""Examination: in this process for its decisions, in one of its own for its robustness."""

import asyncio
import errno
import inspect
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from pydantic import ValidationError
from pydicom import Dataset, dcmread

from model.checkpoint.manifest import Manifest
from model.errors import SiteError, StudyError
from service.cli.options import parameters_of
from service.errors import ParametersError, StudyUnreadable, UploadError
from service.intake import examiner as examiner_module
from service.intake.examine import answer, choose_sampling, examine, unpack_uploads
from service.intake.examiner import SubprocessExaminer, Template
from service.intake.limits import Limits
from service.intake.messages import KnownModel, Request
from service.jobs.job import Examination, Parameters
from service.pipeline.predictor import PredictedDose
from service.pipeline.stages import Run, prepare, publish
from service.storage.layout import DOSE, REPORT_JSON

LIMITS = Limits(
    max_body_bytes=2**30, max_expanded_bytes=2**30, max_ratio=200, max_files=5000, timeout_s=60, memory_bytes=2**32
)


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


def test_it_is_known_what_the_model_has_seen(study: Path, tiny_manifest: Manifest) -> None:
    for simulated in (True, False):
        training = tiny_manifest.training.model_copy(update={"simulated": simulated})
        known = KnownModel.of(tiny_manifest.model_copy(update={"training": training}))
        assert examine(list(study.iterdir()), {"tiny": known}, Parameters()).simulated_training_data is simulated


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


@pytest.fixture
def two_structure_sets(study: Path, tmp_path: Path) -> list[Path]:
    """The study with a copy of its structure set, 1.2.3, in which the larynx has no contours."""
    copied = dcmread(study / "RS.dcm")
    copied.SOPInstanceUID = copied.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    number = next(roi.ROINumber for roi in copied.StructureSetROISequence if roi.ROIName == "Larynx")
    del next(c for c in copied.ROIContourSequence if c.ReferencedROINumber == number).ContourSequence
    copied.save_as(tmp_path / "copy.dcm")
    return [*study.iterdir(), tmp_path / "copy.dcm"]


def test_the_caller_may_name_the_structure_set(two_structure_sets: list[Path], study: Path, models) -> None:
    by_default = examine(two_structure_sets, models, Parameters())
    assert by_default.structure_set == dcmread(study / "RS.dcm").SOPInstanceUID
    assert by_default.ct_series == dcmread(study / "CT.000.dcm").SeriesInstanceUID
    assert any("because the plan refers to it; not used: 1.2.3" in warning for warning in by_default.warnings)

    found = examine(two_structure_sets, models, Parameters(structure_set="1.2.3"))
    assert (found.structure_set, found.missing) == ("1.2.3", ("Larynx",))
    assert any("the parameter 'structure_set' names it" in warning for warning in found.warnings)
    # The plan belongs to the other one
    assert found.prescription.source == "structure-name"


def test_every_stage_uses_the_structure_set_that_the_caller_names(
    two_structure_sets: list[Path], models, tiny_manifest: Manifest, tmp_path: Path
) -> None:
    parameters = Parameters(structure_set="1.2.3", dvh_in_dose=True)
    examination = examine(two_structure_sets, models, parameters)
    case = prepare(two_structure_sets, examination, parameters)
    assert "Larynx" not in case.structures
    dose = PredictedDose(np.where(case.external, 30, 0).astype(np.float32), None, 1.0, 1.0, "cpu")
    run = Run("0" * 32, datetime.now(UTC), tiny_manifest, parameters, examination, examination.warnings)
    results = tmp_path / "results"
    results.mkdir()
    publish(two_structure_sets, case, dose, run, results)
    (referred,) = dcmread(results / DOSE).ReferencedStructureSetSequence
    assert referred.ReferencedSOPInstanceUID == "1.2.3"
    # What intake found odd is told wherever the results go
    assert set(examination.warnings) <= set(json.loads((results / REPORT_JSON).read_text())["metadata"]["warnings"])
    assert examination.warnings[0] in dcmread(results / DOSE).ImageComments


@pytest.mark.parametrize("name", ["ct_series", "structure_set"])
def test_a_uid_that_the_study_lacks_is_refused_with_those_that_it_has(study: Path, models, name: str) -> None:
    with pytest.raises(StudyError) as error:
        examine(list(study.iterdir()), models, Parameters(**{name: "1.2.3"}))
    assert error.value.rule == f"unknown-{name.replace('_', '-')}"
    (known,) = error.value.details["series" if name == "ct_series" else "structure_sets"]
    assert examine(list(study.iterdir()), models, Parameters(**{name: known})).model == "tiny"


@pytest.mark.parametrize(
    ("rule", "points_mm"),
    [
        ("contours-outside-ct", [(0, 0, 2000), (9, 0, 2000), (0, 9, 2000)]),
        ("empty-structure", [(0.1, 0.1, 0), (0.2, 0.1, 0), (0.1, 0.2, 0)]),
    ],
)
def test_targets_that_cannot_be_used_are_refused_before_there_is_a_job(
    study: Path, models, tmp_path: Path, rule: str, points_mm: list[tuple[float, float, float]]
) -> None:
    spoilt = dcmread(study / "RS.dcm")
    number = next(roi.ROINumber for roi in spoilt.StructureSetROISequence if roi.ROIName == "PTV_7000")
    contour_set = next(c for c in spoilt.ROIContourSequence if c.ReferencedROINumber == number)
    contour_set.ContourSequence = contour_set.ContourSequence[:1]
    corner_mm = np.array(contour_set.ContourSequence[0].ContourData[:3], float)
    contour_set.ContourSequence[0].ContourData = (corner_mm + points_mm).ravel().tolist()
    spoilt.save_as(tmp_path / "RS.dcm")
    files = [tmp_path / "RS.dcm", *(path for path in study.iterdir() if path.name != "RS.dcm")]
    with pytest.raises(StudyError, match="PTV_7000") as error:
        examine(files, models, Parameters())
    assert error.value.rule == rule
    # The other targets can do without
    assert examine(files, models, Parameters(structures={"PTV_High": "PTV_6300"})).model == "tiny"


@pytest.mark.parametrize("uid", ["", "1" * 65, 3])
def test_a_uid_has_at_most_64_characters(uid: object) -> None:
    with pytest.raises(ValidationError):
        Parameters(ct_series=uid)


def test_options_of_the_command_line_are_the_parameters_of_a_job() -> None:
    """So that ``diffdp predict`` and ``submit`` can ask for whatever the HTTP interface can, save what concerns it."""
    given = set(inspect.signature(parameters_of).parameters)
    assert given >= set(Parameters.model_fields) - {"priority", "callback_url"}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ("coarse-ddim", 2)),
        ({"steps": 9}, ("coarse-ddim", 9)),
        ({"sampler": "ddim"}, ("ddim", 2)),
        ({"sampler": "dpm-solver", "steps": 1000}, ("dpm-solver", 1000)),
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


def test_a_study_that_hangs_holds_up_no_other(study: Path, models: Mapping[str, KnownModel], tmp_path: Path) -> None:
    examiner = SubprocessExaminer(models, LIMITS.model_copy(update={"timeout_s": 3}))
    hanging, sound = tmp_path / "hanging", tmp_path / "sound"
    hanging.mkdir()
    os.mkfifo(hanging / "00000.part")
    shutil.copytree(study, sound)

    async def both() -> tuple[Examination | BaseException, Examination | BaseException]:
        return await asyncio.gather(
            examiner(hanging, Parameters()), examiner(sound, Parameters()), return_exceptions=True
        )

    hung, found = asyncio.run(both())
    assert isinstance(hung, StudyUnreadable)
    assert found == examine(list(study.iterdir()), models, Parameters())


def test_a_tenant_with_many_studies_does_not_keep_others_waiting(models, tmp_path: Path, monkeypatch) -> None:
    examiner = SubprocessExaminer(models, LIMITS, at_once=2)
    begun: list[str] = []

    async def exchange(request: bytes) -> bytes:
        begun.append(Path(json.loads(request)["folder"]).name)
        await asyncio.sleep(0)
        return b""

    monkeypatch.setattr(examiner, "_exchange", exchange)

    async def post() -> None:
        asked = [("many", number) for number in range(6)] + [("few", 0)]
        posts = [examiner(tmp_path / f"{who}-{number}", Parameters(), tenant=who) for who, number in asked]
        await asyncio.gather(*posts, return_exceptions=True)

    asyncio.run(post())
    assert begun == ["many-0", "many-1", "few-0", "many-2", "many-3", "many-4", "many-5"]


def test_a_process_that_does_not_end_in_time_is_killed(
    models: Mapping[str, KnownModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "00000.part")
    # Its own alarm comes too late
    monkeypatch.setattr(examiner_module, "GRACE_S", 1 - 60)
    template, pids = Template(), []
    examiner = SubprocessExaminer(models, LIMITS)
    monkeypatch.setattr(examiner, "_template", template)
    fork = template.fork
    monkeypatch.setattr(template, "fork", lambda: pids.append(made := fork()) or made)
    with pytest.raises(StudyUnreadable, match="too long"):
        asyncio.run(examiner(tmp_path, Parameters()))
    assert_ends(pids[0][0])


@pytest.mark.skipif(not Path("/proc/self/oom_score_adj").exists(), reason="only Linux chooses whom to end")
def test_the_first_to_end_when_memory_is_short(models) -> None:
    template = Template()
    pid, connection = template.fork()
    with connection:
        for _ in range(100):
            if Path(f"/proc/{pid}/oom_score_adj").read_text() == "1000\n":
                return
            time.sleep(0.1)
    pytest.fail("the machine would not end it first")


def parent_of(pid: int) -> int:
    return int(subprocess.run(["ps", "-o", "ppid=", "-p", str(pid)], capture_output=True, check=True).stdout)


def assert_ends(pid: int) -> None:
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    pytest.fail(f"process {pid} still runs")


@pytest.mark.filterwarnings("ignore:The value length")
def test_a_description_of_many_megabytes_is_no_description(study: Path, models, tmp_path: Path) -> None:
    spoilt = dcmread(study / "RS.dcm")
    for number in range(100, 3100):
        roi = Dataset()
        roi.ROINumber, roi.ROIName = number, "x" * 2000
        spoilt.StructureSetROISequence.append(roi)
    for path in study.glob("CT*"):
        shutil.copy(path, tmp_path)
    spoilt.save_as(tmp_path / "RS.dcm")
    with pytest.raises(StudyUnreadable, match="longer than"):
        in_subprocess(tmp_path, models, LIMITS)


def test_processes_are_forked_anew_after_theirs_was_killed(study: Path, models, tmp_path: Path) -> None:
    examiner = SubprocessExaminer(models, LIMITS)
    expected = examine(list(study.iterdir()), models, Parameters())

    async def once() -> None:
        assert await examiner(shutil.copytree(study, tmp_path / str(uuid4())), Parameters()) == expected

    asyncio.run(once())
    pid, connection = examiner._template.fork()
    template = parent_of(pid)
    connection.close()
    os.kill(template, signal.SIGKILL)
    asyncio.run(once())


def test_no_process_outlives_its_examiner(study: Path, models: Mapping[str, KnownModel]) -> None:
    template = Template()
    pid, connection = template.fork()
    parent = parent_of(pid)
    # Without a request there is nothing to do
    connection.close()
    assert_ends(pid)
    del template
    assert_ends(parent)


def test_a_full_disk_is_no_fault_of_the_study(models, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "00000.part").write_bytes(b"x")

    def full(paths: object, **_: object) -> None:
        raise OSError(errno.ENOSPC, "DOE^JOHN")

    monkeypatch.setattr("service.intake.examine.read_study", full)
    request = Request(folder=tmp_path, parameters=Parameters(), models=models, limits=LIMITS)
    found = answer(request)
    assert (found.fault, found.refusal) == (errno.ENOSPC, None)

    async def converse(connection: socket.socket, _request: bytes) -> bytes:
        connection.close()
        return found.model_dump_json().encode()

    monkeypatch.setattr(examiner_module, "_converse", converse)
    with pytest.raises(OSError, match="No space left") as error:
        in_subprocess(tmp_path, models)
    assert error.value.errno == errno.ENOSPC


def test_whatever_breaks_the_reader_is_a_refusal_without_values(models, tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "00000.part").write_bytes(b"x")

    def broken(paths: object) -> None:
        raise KeyError("DOE^JOHN")

    monkeypatch.setattr("service.intake.examine.read_study", broken)
    refusal = answer(Request(folder=tmp_path, parameters=Parameters(), models=models, limits=LIMITS)).refusal
    assert refusal.code == "study-unreadable"
    assert "DOE" not in refusal.model_dump_json()
