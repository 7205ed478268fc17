"""What every DICOM object that we write has in common: context, identity, provenance, and the file around it."""

import contextlib
import copy
import io
import os
import secrets
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydicom.charset import convert_encodings, decode_bytes, encode_string
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import TEXT_VR_DELIMS, DSfloat, format_number_as_ds

from model.dicom.files import reading
from model.errors import StudyError

WARNING = "predicted, not for treatment"
"""Stands in every object that holds a prediction."""

LO_LENGTH = 64
SH_LENGTH = 16
ST_LENGTH = 1024
LT_LENGTH = 10240

CONTEXT = (
    "SpecificCharacterSet",
    # Patient module, PS3.3 C.7.1.1
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "OtherPatientIDs",
    "OtherPatientIDsSequence",
    "PatientComments",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    # General Study and Patient Study modules, C.7.2.1 and C.7.2.2
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "StudyDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
    # Frame of Reference module, C.7.4.1
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
)
"""Copied from the CT: a planning system files our objects under the same patient, study and frame of reference."""

TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "PositionReferenceIndicator",
)
"""Those of `CONTEXT` that must be present, if only empty."""


@dataclass(frozen=True)
class Provenance:
    """What made a prediction.

    Parameters
    ----------
    model, version
        Name and version of the checkpoint.
    weights_sha256
        Hexadecimal digest of its weights.
    software_version
        Version of this product.
    comment
        Free text about the run, for example sampler and seed; no patient data.
    simulated_training_data
        Whether the network has seen simulated patients only; the objects then say so.
    warnings
        What a user should know of this prediction; no patient data.
    """

    model: str
    version: str
    weights_sha256: str
    software_version: str
    comment: str = ""
    simulated_training_data: bool = False
    warnings: tuple[str, ...] = ()


def new_uid(identity: str | None, *parts: str) -> UID:
    """UID that depends on nothing but the arguments, or a random one without an identity."""
    return generate_uid(entropy_srcs=["/".join((identity, *parts))] if identity else None)


def new_instance(
    ct_header: Dataset,
    *,
    sop_class_uid: UID,
    modality: str,
    identity: str | None,
    created: datetime | None = None,
) -> Dataset:
    """Return an object in a series of its own, in the CT's study and frame of reference.

    Parameters
    ----------
    ct_header
        Any slice of the CT. What is so damaged there that it cannot be copied counts as absent.
    sop_class_uid
        What the object is.
    modality
        Modality (0008,0060).
    identity
        Makes the new UIDs reproducible, so that repeating a stage gives the same object instead of a second one.
    created
        When, by default now.
    """
    created = created or datetime.now().astimezone()
    dataset = Dataset()
    for keyword in CONTEXT:
        if keyword in ct_header:
            with contextlib.suppress(StudyError), reading(keyword):
                dataset.add(_copied(ct_header, keyword))
    for keyword in TYPE_2:
        if keyword not in dataset:
            setattr(dataset, keyword, None)
    # Type 1, but missing or empty in some studies
    for keyword in ("StudyInstanceUID", "FrameOfReferenceUID"):
        if not dataset.get(keyword):
            setattr(dataset, keyword, new_uid(identity, keyword))
    dataset.SOPClassUID = sop_class_uid
    dataset.SOPInstanceUID = new_uid(identity, modality, "instance")
    dataset.InstanceCreationDate = dataset.SeriesDate = f"{created:%Y%m%d}"
    dataset.InstanceCreationTime = dataset.SeriesTime = f"{created:%H%M%S}"
    dataset.Modality = modality
    dataset.SeriesInstanceUID = new_uid(identity, modality, "series")
    dataset.SeriesNumber = 1
    dataset.OperatorsName = None
    dataset.Manufacturer = dataset.ManufacturerModelName = "DiffDP"
    return dataset


def _copied(ct_header: Dataset, keyword: str) -> DataElement:
    """Copy of an element that can be written; whatever the library raises if it cannot."""
    trial = Dataset()
    trial.SpecificCharacterSet = ct_header.get("SpecificCharacterSet")
    trial.add(copy.deepcopy(ct_header[keyword]))
    trial.save_as(io.BytesIO(), implicit_vr=False, little_endian=True)
    return trial[keyword]


def declare_prediction(dataset: Dataset, provenance: Provenance) -> None:
    """Say in an object that it was predicted and by what (SOP Common module, PS3.3 C.12.1)."""
    simulated = "; trained on simulated data" if provenance.simulated_training_data else ""
    dataset.SeriesDescription = f"DiffDP: {WARNING}{simulated}"
    dataset.SoftwareVersions = ascii_text(provenance.software_version, LO_LENGTH)
    purpose = Dataset()
    purpose.CodeValue = "109102"
    purpose.CodingSchemeDesignator = "DCM"
    purpose.CodeMeaning = "Processing Equipment"
    network = Dataset()
    network.PurposeOfReferenceCodeSequence = Sequence([purpose])
    network.Manufacturer = "DiffDP"
    network.ManufacturerModelName = ascii_text(provenance.model, LO_LENGTH)
    network.SoftwareVersions = ascii_text(provenance.version, LO_LENGTH)
    sentences = [
        f"Dose {WARNING}.",
        f"Weights sha256 {provenance.weights_sha256}.",
        "Trained on simulated patients only." if provenance.simulated_training_data else "",
        provenance.comment,
    ]
    network.ContributionDescription = ascii_text(" ".join(filter(None, sentences)), ST_LENGTH)
    dataset.ContributingEquipmentSequence = Sequence([network])


def reference(dataset: Dataset) -> Dataset:
    """Item that refers to an object (SOP Instance Reference macro, PS3.3 table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = dataset.SOPClassUID
    item.ReferencedSOPInstanceUID = dataset.SOPInstanceUID
    return item


def ascii_text(text: str, length: int) -> str:
    """Text that fits an attribute under any character set of the CT: printable ASCII without a backslash."""
    return "".join(c if " " <= c <= "~" else "?" for c in text.replace("\\", "/"))[:length]


def own_text(dataset: Dataset, text: str, length: int) -> str:
    """Text that fits an attribute of an object under its Specific Character Set (0008,0005).

    That is the CT's; what it does not hold becomes a question mark, as do control characters, and a backslash a slash.
    """
    with contextlib.suppress(StudyError), reading("the character set"):
        # The default repertoire, of which the library takes more than ASCII
        encodings = ["ascii" if e == "iso8859" else e for e in convert_encodings(dataset.get("SpecificCharacterSet"))]

        def is_held(part: str) -> bool:
            return decode_bytes(encode_string(part, encodings), encodings, TEXT_VR_DELIMS) == part

        printable = "".join(c if c.isprintable() else "?" for c in text.replace("\\", "/"))[:length]
        return printable if is_held(printable) else "".join(c if is_held(c) else "?" for c in printable)
    return ascii_text(text, length)


def decimal(value: float) -> DSfloat:
    """Value as a decimal string of at most 16 characters, without a negative zero.

    The number in memory is the one in the file: `DSfloat` on its own keeps the digits that the file drops.
    """
    return DSfloat(format_number_as_ds(float(value) + 0.0))


def save(dataset: Dataset, path: Path) -> None:
    """Write a DICOM file (PS3.10); a reader sees the whole file or none.

    What was read keeps its transfer syntax: an element may be longer than explicit VR allows. All else is written in
    explicit VR little endian.
    """
    meta = FileMetaDataset()
    read = dataset.file_meta if hasattr(dataset, "file_meta") else meta
    meta.TransferSyntaxUID = read.get("TransferSyntaxUID", ExplicitVRLittleEndian)
    dataset.file_meta = meta
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            dataset.save_as(file, enforce_file_format=True)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
