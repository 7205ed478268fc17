"""Every set of files in ../shared gets its verdict from the API's examination, and docs/dicom-files.md tells it."""

import re
from collections.abc import Sequence

import pytest

from tests.conformance import dicom_table
from tests.conformance.dicom_table import Verdict

pytestmark = pytest.mark.skipif(not (dicom_table.SHARED / "dicom").is_dir(), reason="needs ../shared/dicom")

PREDICTED = {"hn-201", "hn-201-512px", "hn-209", "hn-226", "hn-233"}

REFUSED = {
    "eclipse-breast": "site-unknown",
    "eclipse-prostate-radonc": "site-unknown",
    "onkodicom-02": "site-unknown",
    "raystation-cheese": "missing-slice",
    "uid-zero-ct": "no-structure-set",
    "monaco-tg119": "no-ct",
    "raystation-proton-ramp": "no-ct",
    "rtdose-orientations-8": "no-ct",
}

MALFORMED = {
    "series-gantrytilting-001": "gantry-tilt",
    "series-sliceincrement-001": "missing-slice",
    "series-slicecount-001": "unsupported-modality",
    "pydicom-data__eCT_Supplemental.dcm": "multi-frame-ct",
    "pydicom__MR_truncated.dcm": "unsupported-modality",
    "pydicom__DICOMDIR": "nothing-readable",
    "pydicom__no_meta.dcm": "nothing-readable",
    "pydicom__chrSQEncoding.dcm": "damaged-file",
    "fo-dicom__GH177_D_CLUNIE_CT1_IVRLE_BigEndian_undefined_length.dcm": "damaged-file",
    "fo-dicom__GH179A.dcm": "damaged-file",
    "fo-dicom__GH223.dcm": "no-ct",
    "csw__CTImage.dcm_JPEGProcess6_8TransferSyntax_1.2.840.10008.1.2.4.53.dcm": "pixel-format",
    "csw__CTImage.dcm_JPEGProcess14SV1TransferSyntax_1.2.840.10008.1.2.4.70.dcm": "too-few-slices",
    "csw__CTImage.dcm_JPEGLSLosslessTransferSyntax_1.2.840.10008.1.2.4.80.dcm": "too-few-slices",
    "fo-dicom__D_CLUNIE_CT1_RLE_FRAGS.dcm": "too-few-slices",
    "slicerrt__crlf_RS.dcm": "damaged-file",
    "opentps__RS_with_Modality_RTDOSE.dcm": "no-ct",
}
"""Those whose fault is known from where they come; the others must be refused for any documented reason."""

Verdicts = tuple[Sequence[Verdict], Sequence[Verdict], Sequence[Verdict]]


@pytest.fixture(scope="module")
def verdicts() -> Verdicts:
    """Any error but a refusal, which the API would answer with 5xx, is raised here."""
    return dicom_table.judge_all()


@pytest.fixture(scope="module")
def documented() -> set[str]:
    text = (dicom_table.ROOT / "docs" / "refusals.md").read_text(encoding="utf-8")
    return set(re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE))


def test_sets_of_planning_systems(verdicts: Verdicts) -> None:
    sets, _, _ = verdicts
    assert {v.name for v in sets if v.models} == PREDICTED
    assert {v.name: v.code for v in sets if not v.models} == REFUSED


def test_malformed_files_are_refused_by_a_documented_rule(verdicts: Verdicts, documented: set[str]) -> None:
    _, alone, _ = verdicts
    assert len(alone) == 40
    assert {v.code for v in alone} <= documented
    assert {v.name: v.code for v in alone if v.name in MALFORMED} == MALFORMED


def test_a_malformed_file_beside_a_good_study_is_left_out_or_refused(verdicts: Verdicts, documented: set[str]) -> None:
    sets, _, beside = verdicts
    good = next(v for v in sets if v.name == dicom_table.GOOD)
    for verdict in beside:
        if verdict.code:
            # What nobody can read may have been part of the study
            assert verdict.code == "damaged-file"
        else:
            assert (verdict.models, verdict.reason) == (good.models, good.reason), verdict.name
    assert {v.code for v in beside} - {""} <= documented


def test_the_document_is_of_this_version(verdicts: Verdicts) -> None:
    """If this fails, look at what has changed, and run ``make dicom-table``."""
    assert dicom_table.DOCUMENT.read_text(encoding="utf-8") == dicom_table.document(*verdicts)
