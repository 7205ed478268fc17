"""What a dose does to structures: DVH, dose and homogeneity indices, OpenKBP scores, sharpness."""

from model.dosimetry.dvh import Dvh, Samples, dvh, interpolate, sampled_dvh, structure_dvhs
from model.dosimetry.indices import CONFORMITY_DEFINITION, HOMOGENEITY_DEFINITION, conformity_index, homogeneity_index
from model.dosimetry.openkbp import OpenKbpScores, PatientErrors, openkbp_scores, patient_errors
from model.dosimetry.sharpness import Sharpness, sharpness

__all__ = [
    "CONFORMITY_DEFINITION",
    "HOMOGENEITY_DEFINITION",
    "Dvh",
    "OpenKbpScores",
    "PatientErrors",
    "Samples",
    "Sharpness",
    "conformity_index",
    "dvh",
    "homogeneity_index",
    "interpolate",
    "openkbp_scores",
    "patient_errors",
    "sampled_dvh",
    "sharpness",
    "structure_dvhs",
]
