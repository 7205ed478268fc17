"""plastimatch sees every voxel of our RTDOSE, and every structure of our RTSTRUCT, where we do."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import RTPlanStorage

from model.case import Volume, VoxelGrid
from model.cohort.neck import simulated_neck
from model.dicom.derived import Provenance, save
from model.dicom.dose_writer import write_dose
from model.dicom.export import write_study

# (slice, row, column) axes. Orientations that exchange axes are missing: plastimatch transposes their direction
# cosines, which shows in its own files.
ORIENTATIONS = {
    "HFS": ((0, 0, 1), (0, 1, 0), (1, 0, 0)),
    "HFP": ((0, 0, 1), (0, -1, 0), (-1, 0, 0)),
    "FFS": ((0, 0, -1), (0, 1, 0), (-1, 0, 0)),
    "FFP": ((0, 0, -1), (0, -1, 0), (1, 0, 0)),
    "HFS, slices from the head": ((0, 0, -1), (0, 1, 0), (1, 0, 0)),
    "FFS, slices from the feet": ((0, 0, 1), (0, 1, 0), (-1, 0, 0)),
}

DTYPES = {"float": "<f4", "uchar": "u1", "unsigned char": "u1"}


def read_nrrd(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Values (slices, rows, columns) and their patient points (slices, rows, columns, 3), in LPS mm."""
    header, data = path.read_bytes().split(b"\n\n", 1)
    fields = dict(line.split(": ", 1) for line in header.decode().splitlines() if ": " in line)
    assert fields["space"] == "left-posterior-superior"
    if fields["encoding"] == "gzip":
        data = gzip.decompress(data)
    shape = tuple(int(n) for n in reversed(fields["sizes"].split()))
    values = np.frombuffer(data, DTYPES[fields["type"]]).reshape(shape)
    steps = np.array([vector.strip("()").split(",") for vector in fields["space directions"].split()], float)
    origin = np.array(fields["space origin"].strip("()").split(","), float)
    columns_rows_slices = np.moveaxis(np.indices(shape)[::-1], 0, -1)
    return values, origin + columns_rows_slices @ steps


def dose_at(points_mm: np.ndarray) -> np.ndarray:
    return 30 + 0.01 * points_mm[..., 0] - 0.03 * points_mm[..., 1] + 0.05 * points_mm[..., 2]


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("axes", ORIENTATIONS.values(), ids=ORIENTATIONS.keys())
def test_dose_lies_where_we_put_it(external_program, tmp_path, axes, bits):
    plastimatch = external_program("plastimatch")
    grid = VoxelGrid((4, 5, 6), (3.0, 2.5, 1.25), (-100.25, 17.5, 333.0), axes)
    points = grid.points_mm(np.moveaxis(np.indices(grid.shape), 0, -1))
    plan = Dataset()
    plan.SOPClassUID, plan.SOPInstanceUID = RTPlanStorage, "1.2.3"
    dose = write_dose(
        Volume(dose_at(points), grid),
        ct_header=Dataset(),
        structure_set=Dataset(),
        plan=plan,
        dvhs={},
        provenance=Provenance("neck", "1.0", "ab" * 32, "0.1.0"),
        bits=bits,
    )
    save(dose, tmp_path / "dose.dcm")
    result = plastimatch("convert", "--input", tmp_path / "dose.dcm", "--output-dose-img", tmp_path / "dose.nrrd")
    assert result.returncode == 0, result.stdout + result.stderr
    values, seen_at = read_nrrd(tmp_path / "dose.nrrd")
    # plastimatch keeps coordinates and doses as float32
    half_step = float(dose.DoseGridScaling) / 2
    assert np.abs(values - dose_at(seen_at)).max() <= half_step + 1e-5
    for extreme in (np.min, np.max):
        assert extreme(seen_at, axis=(0, 1, 2)) == pytest.approx(extreme(points, axis=(0, 1, 2)), abs=1e-4)


def test_structures_are_those_of_the_case(external_program, tmp_path):
    plastimatch = external_program("plastimatch")
    case = simulated_neck(2, shape=(24, 64, 64), spacing_mm=(10.0, 7.0, 7.5))
    paths = write_study(case, tmp_path / "study")
    (tmp_path / "ct").mkdir()
    for path in paths:
        if path.name.startswith("CT"):
            path.rename(tmp_path / "ct" / path.name)
    plastimatch("convert", "--input", tmp_path / "ct", "--output-img", tmp_path / "ct.nrrd")
    result = plastimatch(
        *("convert", "--input", tmp_path / "study" / "RS.dcm", "--referenced-ct", tmp_path / "ct"),
        *(
            "--fixed",
            tmp_path / "ct.nrrd",
            "--output-prefix",
            tmp_path / "masks",
            "--prefix-format",
            "nrrd",
            "--xor-contours",
        ),
    )
    assert result.returncode == 0, result.stdout + result.stderr
    for name, structure in case.structures.items():
        mask, seen_at = read_nrrd(tmp_path / "masks" / f"{name}.nrrd")
        assert seen_at[0, 0, 0] == pytest.approx(case.grid.origin_mm, abs=1e-3)
        assert np.array_equal(mask > 0, structure.mask), name
