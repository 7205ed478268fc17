"""CT compressed by dcmtk's encoders gives the Hounsfield units that went in, through the whole reader."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from model.case import EXTERNAL, Case, Prescription, Structure, VoxelGrid
from model.dicom import StructureChoice, build_case, read_study
from model.dicom.export import write_study
from model.errors import StudyError

NEAR = 3
"""Greatest error of a pixel that JPEG-LS may make where it is allowed to."""

ENCODERS = {
    "JPEG lossless": (JPEGLossless, ("dcmcjpeg", "+el", "+sv", "4"), 0),
    "JPEG lossless, first-order prediction": (JPEGLosslessSV1, ("dcmcjpeg", "+e1"), 0),
    "JPEG-LS": (JPEGLSLossless, ("dcmcjpls", "+el"), 0),
    "JPEG-LS, near-lossless": (JPEGLSNearLossless, ("dcmcjpls", "+en", "+md", str(NEAR)), NEAR),
    "RLE": (RLELossless, ("dcmcrle",), 0),
}
"""Transfer syntax, the program that writes it, and the error that is allowed."""

ENCODED = [
    (encoder, stored)
    for encoder in ENCODERS
    for stored in ("signed", "unsigned")
    # dcmcjpls writes near-lossless frames of unsigned pixels only
    if (encoder, stored) != ("JPEG-LS, near-lossless", "signed")
]

CHOICES = {"PTV": StructureChoice(2, "target"), EXTERNAL: StructureChoice(1, "external")}
PRESCRIPTION = Prescription({"PTV": 60.0}, 30, "parameter")

Compress = Callable[[str, str], list[Path]]


@pytest.fixture
def case() -> Case:
    """Noise in all of the range of CT, more rows than columns."""
    grid = VoxelGrid((5, 36, 28), (3.0, 2.5, 2.0), (-50.0, -60.0, -30.0))
    box = np.zeros(grid.shape, bool)
    box[:, 4:-4, 4:-4] = True
    return Case(
        hu=np.random.default_rng(3).integers(-1024, 3072, grid.shape).astype(np.int16),
        grid=grid,
        structures={
            EXTERNAL: Structure(EXTERNAL, np.ones(grid.shape, bool), "external", EXTERNAL, 1),
            "PTV": Structure("PTV", box, "target", "PTV", 2),
        },
        prescription=PRESCRIPTION,
        identifier="compressed",
    )


@pytest.fixture
def compress(case: Case, tmp_path: Path, external_program) -> Compress:
    """Write the case with its CT compressed; return all files."""

    def written(encoder: str, stored: str) -> list[Path]:
        _, command, _ = ENCODERS[encoder]
        program = external_program(command[0])
        write_study(case, tmp_path)
        for path in tmp_path.iterdir():
            dataset = pydicom.dcmread(path)
            if dataset.Modality != "CT":
                continue
            if stored == "unsigned":
                # As most scanners store it
                dataset.PixelData = (dataset.pixel_array + 1024).astype("<u2").tobytes()
                dataset.PixelRepresentation, dataset.RescaleIntercept = 0, -1024
                dataset.BitsStored, dataset.HighBit = 12, 11
                dataset.save_as(path)
            result = program(*command[1:], path, path)
            assert result.returncode == 0, result.stderr
        return list(tmp_path.iterdir())

    return written


@pytest.mark.parametrize(("encoder", "stored"), ENCODED)
def test_hounsfield_units_survive(compress: Compress, case: Case, encoder: str, stored: str) -> None:
    syntax, _, tolerance = ENCODERS[encoder]
    files = compress(encoder, stored)
    assert syntax in {pydicom.dcmread(path).file_meta.TransferSyntaxUID for path in files}
    study = read_study(files)
    assert study.warnings == (("the CT was compressed with loss",) if tolerance else ())
    hu = build_case(study, CHOICES, PRESCRIPTION).hu
    assert np.abs(hu - case.hu).max() <= tolerance


@pytest.mark.parametrize("encoder", ENCODERS)
def test_frame_of_another_size_than_the_header_says_is_refused(compress: Compress, encoder: str) -> None:
    files = compress(encoder, "unsigned")
    for path in files:
        dataset = pydicom.dcmread(path)
        if dataset.Modality == "CT":
            dataset.Columns += 1
            dataset.save_as(path)
    with pytest.raises(StudyError) as raised:
        build_case(read_study(files), CHOICES, PRESCRIPTION)
    assert raised.value.rule == "pixel-format"


@pytest.mark.parametrize("encoder", ENCODERS)
def test_frame_that_ends_too_early_is_refused(compress: Compress, encoder: str) -> None:
    files = compress(encoder, "unsigned")
    path = next(path for path in files if pydicom.dcmread(path).Modality == "CT")
    dataset = pydicom.dcmread(path)
    (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
    dataset.PixelData = encapsulate([frame[: len(frame) // 2]])
    dataset.save_as(path)
    with pytest.raises(StudyError) as raised:
        build_case(read_study(files), CHOICES, PRESCRIPTION)
    assert raised.value.rule == "pixel-format"
