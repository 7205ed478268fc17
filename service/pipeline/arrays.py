"""Cases and predictions as files between two stages: numpy archives without pickles."""

from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import TypeAdapter

from model.case import Beam, Case, Prescription, Structure, VoxelGrid
from service.pipeline.predictor import PredictedDose

_GRID = TypeAdapter(VoxelGrid)
_PRESCRIPTION = TypeAdapter(Prescription)
_BEAMS = TypeAdapter(tuple[Beam, ...])
_STRUCTURES = TypeAdapter(list[tuple[str, Literal["target", "oar", "external"], str, int | None]])
_WARNINGS = TypeAdapter(tuple[str, ...])


def save_case(case: Case, path: Path) -> None:
    """Write a case without its reference dose; masks take one bit per voxel."""
    structures = [(s.name, s.kind, s.roi_name, s.roi_number) for s in case.structures.values()]
    masks = [np.packbits(s.mask) for s in case.structures.values()]
    np.savez(
        path,
        hu=case.hu,
        masks=np.stack(masks),
        grid=_bytes(_GRID.dump_json(case.grid)),
        structures=_bytes(_STRUCTURES.dump_json(structures)),
        prescription=_bytes(_PRESCRIPTION.dump_json(case.prescription)),
        beams=_bytes(_BEAMS.dump_json(case.beams)),
    )


def load_case(path: Path) -> Case:
    """Read what `save_case` wrote."""
    with np.load(path, allow_pickle=False) as file:
        grid = _GRID.validate_json(file["grid"].tobytes())
        voxels = int(np.prod(grid.shape))
        structures = {}
        for (name, kind, roi_name, roi_number), packed in zip(
            _STRUCTURES.validate_json(file["structures"].tobytes()), file["masks"], strict=True
        ):
            mask = np.unpackbits(packed, count=voxels).astype(bool).reshape(grid.shape)
            structures[name] = Structure(name, mask, kind, roi_name, roi_number)
        return Case(
            hu=file["hu"],
            grid=grid,
            structures=structures,
            prescription=_PRESCRIPTION.validate_json(file["prescription"].tobytes()),
            beams=_BEAMS.validate_json(file["beams"].tobytes()),
        )


def save_prediction(prediction: PredictedDose, path: Path) -> None:
    """Write a predicted dose."""
    arrays = {"dose_gy": prediction.dose_gy}
    if prediction.spread_gy is not None:
        arrays["spread_gy"] = prediction.spread_gy
    np.savez(
        path,
        seconds=np.array([prediction.seconds, prediction.network_s]),
        device=_bytes(prediction.device.encode()),
        warnings=_bytes(_WARNINGS.dump_json(prediction.warnings)),
        spread_is_calibrated=np.array(prediction.spread_is_calibrated),
        **arrays,  # type: ignore[arg-type]
    )


def load_prediction(path: Path) -> PredictedDose:
    """Read what `save_prediction` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return PredictedDose(
            dose_gy=file["dose_gy"],
            spread_gy=file.get("spread_gy"),
            seconds=float(file["seconds"][0]),
            network_s=float(file["seconds"][1]),
            device=file["device"].tobytes().decode(),
            warnings=_WARNINGS.validate_json(file["warnings"].tobytes()),
            spread_is_calibrated=bool(file["spread_is_calibrated"]),
        )


def _bytes(text: bytes) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer(text, np.uint8)
