from datetime import UTC, datetime

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, RTPlanStorage, RTStructureSetStorage

from model.dicom.derived import Provenance

CREATED = datetime(2024, 2, 29, 13, 5, 9, tzinfo=UTC)


@pytest.fixture
def ct_header() -> Dataset:
    header = Dataset()
    header.SpecificCharacterSet = "ISO_IR 100"
    header.SOPClassUID = CTImageStorage
    header.SOPInstanceUID = "1.2.3.1"
    header.PatientName = "Müller^Jürgen"
    header.PatientID = "4711"
    header.PatientBirthDate = "19600102"
    header.PatientSex = "M"
    header.StudyInstanceUID = "1.2.3.10"
    header.StudyDate = "20240105"
    header.StudyTime = "101112"
    header.StudyID = "A1"
    header.AccessionNumber = "77"
    header.PatientPosition = "HFS"
    header.SeriesInstanceUID = "1.2.3.11"
    header.FrameOfReferenceUID = "1.2.3.12"
    header.PositionReferenceIndicator = "XY"
    return header


@pytest.fixture
def structure_set() -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = RTStructureSetStorage
    dataset.SOPInstanceUID = "1.2.3.20"
    return dataset


@pytest.fixture
def plan() -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID = RTPlanStorage
    dataset.SOPInstanceUID = "1.2.3.30"
    return dataset


@pytest.fixture
def provenance() -> Provenance:
    return Provenance(model="neck", version="1.2", weights_sha256="ab" * 32, software_version="0.1.0", comment="seed 7")


@pytest.fixture
def created() -> datetime:
    return CREATED
