"""Decide whether a study can be predicted, by which model, and how.

`examine` does it. Run as a program, ``python -m service.intake.examine``, it does so for files that nobody trusts. Its
standard input is a socket; for every socket that comes through it, it forks a process, which takes a `Request` as JSON
from there, limits its own memory and time, and writes an `Answer` back. The program itself never sees a study.
"""

import contextlib
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from model.checkpoint.manifest import SHORT_CUTS, WITHOUT_CHANCE
from model.conditioning.prescription import resolve_prescription
from model.conditioning.site import StructureMatch, match_structures
from model.dicom.study import StructureChoice, Study, check_choice, check_not_empty, read_study
from model.errors import DiffDPError, SiteError, is_fault_of_the_machine
from service.errors import ParametersError, StudyUnreadable, UploadError
from service.intake.archive import is_archive, unpack
from service.intake.limits import Limits
from service.intake.messages import PID_BYTES, REFUSALS, Answer, KnownModel, Refusal, Request
from service.intake.upload import ARCHIVE_SUFFIX
from service.jobs.job import Examination, Parameters, PrescriptionRecord, Sampling, UsedStructure


def examine(paths: Sequence[Path], models: Mapping[str, KnownModel], parameters: Parameters) -> Examination:
    """Examine the files of a study.

    Raises
    ------
    StudyError
        If it cannot be predicted; `SiteError` if no model knows its site.
    ParametersError
        If a parameter does not fit the models that are there.
    """
    study = read_study(paths, ct_series=parameters.ct_series, structure_set=parameters.structure_set)
    name, match = _choose_model(study, models, parameters)
    for used in match.structures.values():
        choice = StructureChoice(used.roi_number, used.kind)
        check_choice(study, used.name, choice)
        check_not_empty(study, used.name, choice)
    plan = study.plan
    prescription, prescription_warnings = resolve_prescription(
        match.targets,
        parameter_gy=parameters.prescription_gy,
        parameter_fractions=parameters.fractions,
        plan_dose_gy=plan.target_dose_gy if plan else {},
        plan_fractions=plan.fractions if plan else None,
        plan_highest_gy=plan.highest_dose_gy if plan else None,
    )
    return Examination(
        model=name,
        simulated_training_data=models[name].simulated_training_data,
        ct_series=study.ct_series_uid,
        structure_set=study.structure_set_uid,
        structures=tuple(
            UsedStructure(name=m.name, kind=m.kind, roi_number=m.roi_number, roi_name=m.roi_name)
            for m in match.structures.values()
        ),
        missing=match.missing,
        unused=match.unused,
        prescription=PrescriptionRecord(
            dose_gy=dict(prescription.dose_gy), fractions=prescription.fractions, source=prescription.source
        ),
        sampling=choose_sampling(models[name], parameters),
        slices=study.grid.shape[0],
        warnings=(*study.warnings, *match.warnings, *prescription_warnings),
    )


def choose_sampling(model: KnownModel, parameters: Parameters) -> Sampling:
    """Fill in the model's defaults where the caller does not say how to sample.

    Raises
    ------
    ParametersError
        ``sampler-unknown`` if the model cannot sample so; ``steps-too-many`` if the sampler has not so many;
        ``samples-alike`` if several samples are asked of one that leaves nothing to chance.
    """
    defaults = model.defaults
    sampler = parameters.sampler or defaults.sampler
    if sampler not in model.samplers:
        can = ", ".join(model.samplers)
        raise ParametersError(f"the model cannot sample by {sampler}, only by {can}", code="sampler-unknown")
    from_noise = 1 if sampler in WITHOUT_CHANCE else model.schedule_steps
    most = defaults.start_step if sampler == "coarse-ddim" else from_noise
    if parameters.steps is not None and parameters.steps > most:
        raise ParametersError(f"the sampler {sampler} has at most {most} steps", code="steps-too-many")
    steps = (parameters.steps or min(defaults.steps, most)) if sampler in SHORT_CUTS else most
    samples = parameters.samples or (1 if sampler in WITHOUT_CHANCE else defaults.samples)
    if samples > 1 and sampler in WITHOUT_CHANCE:
        raise ParametersError(
            f"the sampler {sampler} leaves nothing to chance: one sample is all", code="samples-alike"
        )
    return Sampling(sampler=sampler, steps=steps, samples=samples, seed=parameters.seed)


def _choose_model(study: Study, models: Mapping[str, KnownModel], parameters: Parameters) -> tuple[str, StructureMatch]:
    """Take the model that the caller names, else the only one whose site fits."""
    if parameters.model is not None:
        if parameters.model not in models:
            known = ", ".join(sorted(models)) or "none"
            raise ParametersError(f"there is no model of this name; known: {known}", code="model-unknown")
        return parameters.model, match_structures(models[parameters.model].site, study.rois, parameters.structures)
    fitting: dict[str, StructureMatch] = {}
    misfits: dict[str, SiteError] = {}
    for name, known_model in models.items():
        try:
            fitting[name] = match_structures(known_model.site, study.rois, parameters.structures)
        except SiteError as error:
            misfits[name] = error
    if len(fitting) > 1:
        raise ParametersError(
            f"several models know this site: {', '.join(fitting)}; name one with the parameter 'model'",
            code="model-ambiguous",
            details={"models": sorted(fitting)},
        )
    if not fitting and len(misfits) == 1:
        raise next(iter(misfits.values()))
    if not fitting:
        raise SiteError(
            "no model knows the site of this study: "
            + "; ".join(f"{name}: {error.message}" for name, error in misfits.items()),
            details={name: error.details for name, error in misfits.items()},
        )
    return next(iter(fitting.items()))


def unpack_uploads(folder: Path, limits: Limits) -> list[Path]:
    """Replace an uploaded archive by its files; several files are taken as they are, and none of them unpacked.

    Raises
    ------
    UploadError
        If the archive cannot be used.
    """
    uploads = sorted(folder.iterdir())
    first = uploads[0]
    if first.suffix == ARCHIVE_SUFFIX and not is_archive(first):
        raise UploadError("the body is not a zip archive", code="archive-invalid")
    if len(uploads) > 1 or not is_archive(first):
        return uploads
    files = unpack(first, folder, limits)
    first.unlink()
    return files


def answer(request: Request) -> Answer:
    """Examine an upload; whatever is wrong with it becomes a refusal without patient data, a full disk a fault."""
    try:
        files = unpack_uploads(request.folder, request.limits)
        return Answer(examination=examine(files, request.models, request.parameters))
    except DiffDPError as error:
        kind = next(cls.__name__ for cls in type(error).__mro__ if cls.__name__ in REFUSALS)
        details = json.loads(json.dumps(error.details, default=str))
        return Answer(refusal=Refusal(kind=kind, code=error.rule, message=error.message, details=details))
    except OSError as error:
        if is_fault_of_the_machine(error):
            return Answer(fault=error.errno)
        return Answer(refusal=_unreadable(error))
    except Exception as error:  # noqa: BLE001 - a file that breaks the reader is the sender's fault, not a server error
        return Answer(refusal=_unreadable(error))


def _unreadable(error: Exception) -> Refusal:
    message = f"the study cannot be read ({type(error).__name__})"
    return Refusal(kind="StudyUnreadable", code=StudyUnreadable.code, message=message, details={})


def serve(caller: socket.socket) -> None:
    """Answer one request within its limits; crashes and endless loops end this process and no other."""
    with contextlib.suppress(OSError):  # Linux ends this process first when the machine is short of memory
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")
    with caller, caller.makefile("rwb") as stream:
        request = Request.model_validate_json(stream.read())
        limits = request.limits
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        with contextlib.suppress(ValueError, OSError):  # macOS does not limit address space
            resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
        signal.alarm(limits.timeout_s)
        stream.write(answer(request).model_dump_json().encode())


def main() -> None:
    """Fork a process for every socket that comes, and send its identifier back, until there is nobody to send one."""
    # Nobody waits for children to end
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=os.dup(sys.stdin.fileno())) as control:
        while descriptors := socket.recv_fds(control, 1, 1)[1]:
            child = os.fork()
            if child == 0:
                try:
                    control.close()
                    os.close(sys.stdin.fileno())
                    serve(socket.socket(fileno=descriptors[0]))
                finally:
                    os._exit(0)
            os.close(descriptors[0])
            control.sendall(child.to_bytes(PID_BYTES))


if __name__ == "__main__":
    main()
