"""Names in the writings of the world come in as they were written, and go out so that dcmtk reads them."""

import pytest
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.uid import CTImageStorage, RTStructureSetStorage

from model.case import Prescription
from model.dicom.attributes import items, text
from model.dicom.derived import Provenance, save
from model.dicom.plan_writer import companion_plan


def jis(text: str) -> bytes:
    """JIS X 0208 between the escape sequences that lead there and back (PS3.5 H.3)."""
    return b"\x1b$B" + bytes(byte & 0x7F for byte in text.encode("euc_jp")) + b"\x1b(B"


MANY = "PTV 膀胱 방광 ぼうこう Мочевой ต่อม"
NAMES = [
    ("ISO_IR 192", MANY, MANY.encode()),
    # The second byte of the last one is that of a backslash, in GB18030 as in JIS X 0208
    ("GB18030", "膀胱乗", "膀胱乗".encode("gb18030")),
    ("GBK", "小肠", "小肠".encode("gbk")),
    (r"\ISO 2022 IR 87", "右大腿骨頭 本", jis("右大腿骨頭") + b" " + jis("本")),
    (r"\ISO 2022 IR 149", "방광 PTV", b"\x1b$)C" + "방광".encode("euc_kr") + b" PTV"),
    ("ISO_IR 144", "Мочевой пузырь", "Мочевой пузырь".encode("iso8859_5")),
    ("ISO_IR 100", "Hüftkopf", "Hüftkopf".encode("latin_1")),
]


@pytest.mark.parametrize(("character_set", "name", "encoded"), NAMES, ids=[name for name, _, _ in NAMES])
def test_a_target_s_name_comes_in_and_goes_out(external_program, tmp_path, character_set, name, encoded):
    structure_set, ct_header = Dataset(), Dataset()
    structure_set.SOPClassUID, structure_set.SOPInstanceUID = RTStructureSetStorage, "1.2.3"
    ct_header.SOPClassUID, ct_header.SOPInstanceUID, ct_header.StudyInstanceUID = CTImageStorage, "1.2.4", "1.2.5"
    for dataset in (structure_set, ct_header):
        dataset.SpecificCharacterSet = character_set.split("\\")
    roi = Dataset()
    roi.add(DataElement("ROIName", "UN", encoded))
    structure_set.StructureSetROISequence = [roi]
    save(structure_set, tmp_path / "RS.dcm")
    (found,) = items(dcmread(tmp_path / "RS.dcm"), "StructureSetROISequence")
    assert text(found, "ROIName") == name

    plan = companion_plan(
        ct_header=ct_header, structure_set=structure_set, prescription=Prescription({name: 50.0}, 25, "parameter"),
        target_roi_numbers={}, provenance=Provenance("m", "1", "00", "0.1"), identity="job",
    )  # fmt: skip
    save(plan, tmp_path / "RP.dcm")
    assert encoded in (tmp_path / "RP.dcm").read_bytes()
    # The C library's converter, with which Debian builds dcmtk, knows no JIS X 0208
    if "87" not in character_set:
        shown = external_program("dcmdump")("+U8", "+P", "DoseReferenceDescription", tmp_path / "RP.dcm")
        assert f"[{name}]" in shown.stdout


def test_an_escape_that_the_library_leaves_is_no_part_of_the_name(tmp_path):
    dataset = Dataset()
    dataset.SpecificCharacterSet = ["", "ISO 2022 IR 58"]
    dataset.SOPClassUID, dataset.SOPInstanceUID = RTStructureSetStorage, "1.2.3"
    dataset.add(DataElement("StructureSetLabel", "UN", b"\x1b$)A" + "膀胱".encode("gb2312")))
    save(dataset, tmp_path / "RS.dcm")
    assert text(dcmread(tmp_path / "RS.dcm"), "StructureSetLabel") == "膀胱"
