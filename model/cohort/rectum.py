"""A simulated rectal cancer patient with a plan: two 6 MV arcs, 50 Gy in 25 fractions."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from model.case import EXTERNAL, Apertures, Beam, Case
from model.cohort.arc import Aperture, ArcDose, Patient
from model.cohort.pelvis import TARGET, simulated_pelvis
from model.cohort.photons import depth_dose
from model.cohort.vmat import GANTRY_DEG, LEAF_MM, Leaves, one_thread, optimise
from model.dosimetry.rays import Axis, Images, beam_directions, magnification, relative_electron_density

COARSE = (2, 2, 2)
"""Voxels of the CT that plan optimisation takes together, along each axis."""

MONITOR_UNITS = 100 * float(depth_dose(np.array([15.0]), 100.0, 1000.0).item())
"""Of a meterset of 1 and 1 Gy: 100 give 1 Gy at 15 mm in a field of 10 cm, with the surface at 1000 mm."""

FIELD_MARGIN_MM = 8.0
"""Leaves may open so far beside the target: its edge needs it, for penumbra."""

BEYOND_FIELD_MM = 20.0
"""So far beyond the field's ends along the patient dose is still optimised."""


@dataclass(frozen=True)
class Effort:
    """How much work goes into a plan.

    Parameters
    ----------
    steps
        Of gradient descent: on the free fluence, and on the apertures.
    coarse_mm, fine_mm
        Sampling along the rays while optimising, and of the plan's dose.
    """

    steps: tuple[int, int] = (16, 60)
    coarse_mm: float = 5.0
    fine_mm: float = 3.0


@dataclass(frozen=True)
class Limit:
    """A dose that an organ should not exceed, as a share of the prescription, and how much that matters."""

    share: float
    weight: float


ORGAN_LIMITS = {
    "Bladder": (Limit(0.65, 12.0), Limit(0.4, 1.6)),
    "Bowel_Small": (Limit(0.6, 8.0), Limit(0.3, 1.2)),
    "Femur_Head_R": (Limit(0.5, 4.0), Limit(0.35, 0.5)),
    "Femur_Head_L": (Limit(0.5, 4.0), Limit(0.35, 0.5)),
}
"""Of the parts of organs outside the target."""

COVERAGE = Limit(1.0, 1100.0)
HOMOGENEITY = Limit(1.03, 250.0)
NO_HOT_SPOT = Limit(1.05, 1500.0)

FALL_OFF_START_MM = 3.0
FALL_OFF_PER_MM = 0.06
FALL_OFF_SHARE = 0.4
FALL_OFF_WEIGHT = 20.0
"""Beyond the start, dose should fall exponentially with distance from the target to this share of the prescription."""

TASTE = 0.3
"""Standard deviation of the logarithm of the weights: planners differ in what they care for."""


def simulated_rectum(seed: int, number: int = 1) -> Case:
    """Return a simulated patient with rectal cancer, with beams and the dose of a plan.

    The same seed and number give the same patient and, on the same kind of machine, the same dose, bit for bit.

    Parameters
    ----------
    seed
        Determines a cohort: its patients and their planners' tastes.
    number
        Which of its patients.
    """
    return planned(simulated_pelvis(seed, number), np.random.default_rng([seed, number, 1]))


def planned(case: Case, random: np.random.Generator, effort: Effort = Effort()) -> Case:
    """Return a patient with beams and dose.

    Parameters
    ----------
    case
        From `simulated_pelvis`.
    random
        Draws the planner's taste.
    effort
        By default what the cohort's plans get.
    """
    grid = case.grid
    target = case.structures[TARGET].mask
    centroid = grid.points_mm(np.argwhere(target).mean(axis=0))
    # Treatment couches are set to a tenth of a millimetre
    isocentre = (round(float(centroid[0]), 1), round(float(centroid[1]), 1), round(float(centroid[2]), 1))
    density = relative_electron_density(np.asarray(case.hu, np.float32)) * case.external
    fine = Patient(
        density,
        *(
            np.asarray(grid.origin_mm[2 - k] - isocentre[2 - k] + grid.spacing_mm[k] * np.arange(grid.shape[k]))
            for k in range(3)
        ),
    )
    aperture = _aperture(target, fine)
    near = _slices_near(fine.z_mm, aperture)
    coarse = Patient(
        _together(density[near]) * (_together(case.external[near]) >= 0.5),
        *(
            axis.reshape(-1, n).mean(axis=1)
            for axis, n in zip((fine.z_mm[near], fine.y_mm, fine.x_mm), COARSE, strict=True)
        ),
    )
    with one_thread():
        arc = ArcDose(coarse, GANTRY_DEG, aperture, effort.coarse_mm)
        arc.keep()
        objective = _Objectives(case, near, coarse, np.exp(TASTE * random.standard_normal(len(ORGAN_LIMITS) + 1)))
        reach = _reach(target, fine, aperture)
        per_fluence = float(objective.mean_target(arc.dose(reach.float())))
        leaves = optimise(arc, aperture, reach, lambda dose: objective(dose / per_fluence), effort.steps)
        dose = fine.volume(ArcDose(fine, GANTRY_DEG, aperture, effort.fine_mm).dose(leaves.fluence(aperture)))
    prescribed_gy = case.prescription.highest_gy
    # ICRU 83: the median of the target is to receive what is prescribed
    scale = float(prescribed_gy / np.median(dose[target]))
    apertures = _apertures(leaves, aperture, scale * MONITOR_UNITS / (case.prescription.fractions or 1))
    arcs = (Beam(GANTRY_DEG, isocentre, 0.0, apertures[0]), Beam(GANTRY_DEG[::-1], isocentre, 0.0, apertures[1]))
    return replace(case, beams=arcs, dose_gy=dose * np.float32(scale))


def _apertures(leaves: Leaves, aperture: Aperture, units: float) -> list[Apertures]:
    """Apertures of both arcs, the second of which comes back; `units` are the monitor units of a meterset of 1."""
    ends = torch.stack([leaves.low_mm, leaves.high_mm], dim=-1)
    return [
        Apertures(
            tuple(aperture.v_mm.tolist()),
            tuple(tuple((low, high) for low, high in pairs) for pairs in ends[arc].tolist()[::step]),
            tuple((units * leaves.meterset[arc]).tolist()[::step]),
        )
        for arc, step in ((0, 1), (1, -1))
    ]


def _together(values: NDArray[np.generic]) -> Images:
    (z, y, _), (by, rows, columns) = values.shape, COARSE
    parts = np.asarray(values, np.float32).reshape(z // by, by, y // rows, rows, -1, columns)
    return np.asarray(parts.mean(axis=(1, 3, 5)))


def _aperture(target: NDArray[np.bool_], patient: Patient) -> Aperture:
    """Bixels that cover the target from every side."""
    z, y, x = (axis[k] for axis, k in zip((patient.z_mm, patient.y_mm, patient.x_mm), np.nonzero(target), strict=True))
    nearest = 1 - np.hypot(y, x).max() / 1000

    def edges(low: float, high: float) -> Axis:
        first, last = np.floor(low / nearest / LEAF_MM), np.ceil(high / nearest / LEAF_MM)
        return LEAF_MM * np.arange(first, last + 1)

    radius = float(np.hypot(y, x).max()) + FIELD_MARGIN_MM
    return Aperture(edges(float(z.min()) - FIELD_MARGIN_MM, float(z.max()) + FIELD_MARGIN_MM), edges(-radius, radius))


def _slices_near(z_mm: Axis, aperture: Aperture) -> slice:
    """Slices in which dose is optimised: those that the field meets, and some beyond; a whole number of coarse ones."""
    low, high = aperture.v_mm[0] - BEYOND_FIELD_MM, aperture.v_mm[-1] + BEYOND_FIELD_MM
    first, last = np.searchsorted(z_mm, [low, high]) // COARSE[0] * COARSE[0]
    return slice(int(first), int(last))


def _reach(target: NDArray[np.bool_], patient: Patient, aperture: Aperture) -> Tensor:
    """(control points, leaves, bixels) bool: which see the target or lie next to one that does."""
    # A ray that meets the target meets its surface
    surface = target & ~ndimage.binary_erosion(target)
    z, y, x = (axis[k] for axis, k in zip((patient.z_mm, patient.y_mm, patient.x_mm), np.nonzero(surface), strict=True))
    reach = np.zeros((len(GANTRY_DEG), *aperture.shape), np.bool_)
    for open_, gantry_deg in zip(reach, GANTRY_DEG, strict=True):
        forward, across = beam_directions(gantry_deg)
        scale = magnification(y * forward[0] + x * forward[1])
        u, v = (y * across[0] + x * across[1]) / scale, z / scale
        open_[np.searchsorted(aperture.v_mm, v) - 1, np.searchsorted(aperture.u_mm, u) - 1] = True
    return torch.from_numpy(ndimage.binary_dilation(reach, np.ones((1, 3, 3), np.bool_)))


class _Objectives:
    """What a planner wants of a dose, as a number to be made small."""

    def __init__(self, case: Case, slices: slice, patient: Patient, taste: NDArray[np.float64]) -> None:
        column, spacing = patient.column, np.multiply(case.grid.spacing_mm, COARSE)

        def tensor(volume: Images) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(volume[:, column].T))  # (pixels, slices)

        masks = {name: _together(structure.mask[slices]) for name, structure in case.structures.items()}
        distance = ndimage.distance_transform_edt(masks[TARGET] < 0.5, sampling=spacing).astype(np.float32)
        self.target = tensor(masks[TARGET])
        beyond = np.exp(-FALL_OFF_PER_MM * np.maximum(distance - FALL_OFF_START_MM, 0))
        self._fall_off = tensor(FALL_OFF_SHARE + (1 - FALL_OFF_SHARE) * beyond)
        self._inside = tensor(masks[EXTERNAL])
        self._outside = tensor(masks[EXTERNAL] * (distance > 0))
        self._organs = [
            (tensor(masks[name] * (distance > 0)), limit, limit.weight * float(weight))
            for (name, limits), weight in zip(ORGAN_LIMITS.items(), taste[1:], strict=True)
            for limit in limits
        ]
        self._fall_off_weight = FALL_OFF_WEIGHT * float(taste[0])

    def mean_target(self, dose: Tensor) -> Tensor:
        """Mean dose of the target."""
        return _mean(dose, self.target)

    def __call__(self, dose: Tensor) -> Tensor:
        """Evaluate for a dose (pixels, slices), 1 being the prescription."""
        loss = COVERAGE.weight * _mean(torch.relu(COVERAGE.share - dose).square(), self.target)
        loss = loss + HOMOGENEITY.weight * _mean(torch.relu(dose - HOMOGENEITY.share).square(), self.target)
        loss = loss + NO_HOT_SPOT.weight * _mean(torch.relu(dose - NO_HOT_SPOT.share).square(), self._inside)
        loss = loss + self._fall_off_weight * _mean(torch.relu(dose - self._fall_off).square(), self._outside)
        for organ, limit, weight in self._organs:
            loss = loss + weight * _mean(torch.relu(dose - limit.share).square(), organ)
        return loss


def _mean(values: Tensor, weights: Tensor) -> Tensor:
    return (values * weights).sum() / weights.sum()
