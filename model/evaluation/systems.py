"""Systems that are compared: a checkpoint and how it is sampled, scored on the same patients."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from model.case import Case
from model.checkpoint.manifest import SamplerDefaults
from model.checkpoint.store import Checkpoint
from model.errors import CheckpointError
from model.evaluation.comparison import Extras
from model.evaluation.scores import Scores, evaluate
from model.networks.cost import cost
from model.prediction.predictor import Prediction, Predictor, SamplingOptions


@dataclass(frozen=True)
class System:
    """A checkpoint and how it is sampled.

    Parameters
    ----------
    label
        By which tables and figures know it.
    """

    label: str
    checkpoint: Checkpoint
    sampling: SamplerDefaults

    def predictor(self, device: str) -> Predictor:
        """Load it."""
        predictor = Predictor.load(self.checkpoint, device)
        manifest, sampling = predictor.manifest, self.sampling
        # Of other samples it knows no spread
        spread = manifest.spread if manifest.defaults.samples_like(sampling.sampler, sampling.steps) else None
        predictor.manifest = manifest.model_copy(update={"defaults": sampling, "spread": spread})
        return predictor

    def options(self, seed: int) -> SamplingOptions:
        """Return how it is sampled."""
        return SamplingOptions.by(self.sampling, seed=seed)


def parse_system(text: str, find: Callable[[str], Checkpoint]) -> System:
    """Read ``[LABEL=]MODEL[@SAMPLER[:STEPS[:SAMPLES[:START]]]]``; what is left out is the checkpoint's default.

    Parameters
    ----------
    find
        Finds the checkpoint of a model.

    Raises
    ------
    CheckpointError
        If the text is not of this form, or the network cannot sample so.
    """
    label, _, rest = text.rpartition("=")
    model, _, given = rest.partition("@")
    checkpoint = find(model)
    manifest = checkpoint.manifest
    values = dict(zip(("sampler", "steps", "samples", "start_step"), given.split(":") if given else (), strict=False))
    if given.count(":") > 3:
        raise CheckpointError(f"{given!r} is not SAMPLER[:STEPS[:SAMPLES[:START]]]")
    try:
        sampling = SamplerDefaults.model_validate({**manifest.defaults.model_dump(), **values}, strict=False)
    except ValidationError as error:
        told = "; ".join(f"{e['loc'][0]}: {e['msg']}" for e in error.errors())
        raise CheckpointError(f"{given!r} is no way of sampling: {told}") from error
    if sampling.sampler not in manifest.samplers:
        raise CheckpointError(
            f"{manifest.name} cannot sample by {sampling.sampler}, only {', '.join(manifest.samplers)}"
        )
    return System(label or rest, checkpoint, sampling)


def costs(systems: Sequence[System], scores: Mapping[str, Scores]) -> Extras:
    """Return parameters, operations in the smallest window as it is sampled, and time: columns of a table."""
    told: dict[str, dict[str, str]] = {}
    for system in systems:
        predictor = system.predictor("cpu")
        manifest, sampling = predictor.manifest, system.sampling
        found = cost(predictor.network, *(manifest.smallest_window or (manifest.grid.rows, manifest.grid.columns)))
        evaluations = predictor.evaluations(system.options(0)) if found.step and sampling.sampler != "coarse" else 0
        coarse = found.coarse if sampling.sampler.startswith("coarse") else 0
        seconds = np.mean([patient.seconds for patient in scores[system.label].patients])
        told[system.label] = {
            "Parameters (M)": f"{found.parameters / 1e6:.1f}",
            "GFLOP per slice": f"{(found.once + coarse + evaluations * found.step) / 1e9:.1f}",
            "Time per patient (s)": f"{seconds:.1f}",
        }
    return told


class Comparison(NamedTuple):
    """What became of systems on the same patients.

    Parameters
    ----------
    scores
        By the system's label.
    shown
        The case to show: the patient that is typical of the first system.
    doses_gy
        System → predicted dose of that case, in Gy on its grid.
    """

    scores: Mapping[str, Scores]
    shown: Case
    doses_gy: Mapping[str, NDArray[np.float32]]


def compare(
    systems: Sequence[System],
    files: Sequence[Path],
    load: Callable[[Path], Case],
    device: str,
    seed: int,
    done: Callable[[str], object],
    *,
    with_gamma: bool,
) -> Comparison:
    """Score every system on every case, in that order, calling `done` with its label after each patient."""
    main, *others = systems

    def score(system: System, seen: Callable[[Case, Prediction], object] = lambda *_: None) -> Scores:
        def after(case: Case, prediction: Prediction) -> None:
            seen(case, prediction)
            done(system.label)

        cases = (load(path) for path in files)
        return evaluate(system.predictor(device), cases, system.options(seed), after, with_gamma=with_gamma)

    scores = {main.label: score(main)}
    shown = load(files[typical_patient(scores[main.label])])
    doses_gy = {main.label: main.predictor(device).predict(shown, main.options(seed)).dose_gy}
    for system in others:

        def keep(case: Case, prediction: Prediction, label: str = system.label) -> None:
            # A thousand steps are not to be taken twice
            if case.identifier == shown.identifier:
                doses_gy[label] = prediction.dose_gy

        scores[system.label] = score(system, keep)
    return Comparison(scores, shown, doses_gy)


def typical_patient(scores: Scores) -> int:
    """Index of the patient whose dose error is the median, the lower of two: one to show."""
    order = np.argsort([patient.errors.dose_gy for patient in scores.patients])
    return int(order[(len(order) - 1) // 2])
