"""What a dose does to structures: DVH, dose and homogeneity indices, OpenKBP scores, sharpness."""

from model.dosimetry.dvh import Dvh, dvh
from model.dosimetry.indices import CONFORMITY_DEFINITION, HOMOGENEITY_DEFINITION, conformity_index, homogeneity_index
from model.dosimetry.openkbp import OpenKbpScores, PatientErrors, openkbp_scores, patient_errors
from model.dosimetry.sharpness import Sharpness, sharpness

__all__ = [
    "CONFORMITY_DEFINITION",
    "HOMOGENEITY_DEFINITION",
    "Dvh",
    "OpenKbpScores",
    "PatientErrors",
    "Sharpness",
    "conformity_index",
    "dvh",
    "homogeneity_index",
    "openkbp_scores",
    "patient_errors",
    "sharpness",
]
