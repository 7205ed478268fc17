"""From a case to a dose: samplers, seeds, batches, progress, cancellation, and what is refused."""

import shutil
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from model.case import EXTERNAL, Beam, Structure
from model.checkpoint.manifest import Architecture, Channel, SamplerDefaults, SpreadCalibration
from model.checkpoint.store import Checkpoint, open_checkpoint
from model.conditioning.channels import condition
from model.errors import Cancelled, CheckpointError, DeviceError, PredictionError
from model.networks.diffdp import DiffDP
from model.networks.system import RegressionNetwork
from model.prediction.predictor import Predictor, SamplingOptions, choose_device

SAMPLERS = ["ancestral", "ddim", "coarse-ddim", "coarse"]

ROUNDING = 0.03
"""Root mean square, relative. Convolutions of other batch sizes may add up in another order, which bfloat16 (8 bits)
and an untrained network magnify: 0.001 to 0.01 was seen. Another slice's noise would make 0.3."""


def off_by(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.sqrt(np.square(found - expected).mean() / np.square(expected).mean()))


def options(sampler="ddim", steps=3, samples=1, seed=0) -> SamplingOptions:
    return SamplingOptions(sampler, steps, samples, seed)


class IdealPredictor(nn.Module):
    """E[ε | y_t] for doses that are N(mean, deviation²) in every pixel."""

    def __init__(self, mean: float, deviation: float = 0.0) -> None:
        super().__init__()
        self.mean, self.deviation, self.seen = mean, deviation, []

    def forward(self, structure: tuple[Tensor, ...], noisy: Tensor, gamma: Tensor) -> Tensor:
        self.seen.append(float(gamma[0]))
        g = gamma[:, None, None, None]
        return (1 - g).sqrt() * (noisy - g.sqrt() * self.mean) / (g * self.deviation**2 + 1 - g)


def count_calls(module: nn.Module) -> list[int]:
    """Batch sizes with which a module is called from now on."""
    sizes: list[int] = []
    module.register_forward_hook(lambda _module, _inputs, output: sizes.append(len(output[-1])))
    return sizes


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_gives_the_same_dose(predictor, block_case, sampler):
    one, again = (predictor.predict(block_case, options(sampler, seed=5)).dose_gy for _ in range(2))
    np.testing.assert_array_equal(one, again)
    assert one.dtype == np.float32
    assert one.flags["C_CONTIGUOUS"]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_other_seeds_give_other_doses_where_there_is_chance(predictor, block_case, sampler):
    one, other = (predictor.predict(block_case, options(sampler, seed=seed)).dose_gy for seed in (5, 6))
    assert (np.abs(one - other).max() > 0.1) == (sampler != "coarse")


def test_the_first_of_several_samples_is_the_single_one(predictor, block_case):
    single, pair = (predictor.predict(block_case, options(samples=samples)) for samples in (1, 2))
    assert single.spread_gy is None
    # Of two samples a and b the mean is (a + b) / 2 and the standard deviation |a − b| / √2
    inside = block_case.external & (pair.dose_gy > 0) & (single.dose_gy > 0)
    off = np.abs(single.dose_gy - pair.dose_gy)[inside]
    np.testing.assert_allclose(pair.spread_gy[inside], off * 2**0.5, atol=1e-3)


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("slices_per_batch", [1, 3])
def test_the_dose_does_not_depend_on_the_batch_size(predictor, block_case, sampler, slices_per_batch):
    expected = predictor.predict(block_case, options(sampler, samples=2))
    found = predictor.predict(block_case, options(sampler, samples=2), slices_per_batch=slices_per_batch)
    assert off_by(found.dose_gy, expected.dose_gy) < ROUNDING
    if sampler != "coarse":
        assert off_by(found.spread_gy, expected.spread_gy) < ROUNDING
        other = predictor.predict(block_case, options(sampler, samples=2, seed=1))
        assert off_by(other.dose_gy, expected.dose_gy) > 5 * ROUNDING


@pytest.mark.parametrize(("sampler", "evaluations"), [("ancestral", 8), ("ddim", 3), ("coarse-ddim", 3), ("coarse", 0)])
def test_the_encoder_sees_each_slice_once_whatever_the_steps(predictor, block_case, sampler, evaluations):
    encoder, noise = count_calls(predictor.network.encoder), count_calls(predictor.network.predictor)
    predictor.predict(block_case, options(sampler, samples=2), slices_per_batch=2)
    assert encoder == [2, 2, 1]
    assert len(noise) == 3 * 2 * evaluations


class Memory:
    """Makes the noise predictor fail as torch does for batches that do not fit."""

    def __init__(self, network, slices: int, monkeypatch, error: RuntimeError) -> None:
        self.batches: list[int] = []
        predict_noise = network.predict_noise

        def limited(features, noisy, intensity):
            self.batches.append(len(noisy))
            if len(noisy) > slices:
                raise error
            return predict_noise(features, noisy, intensity)

        monkeypatch.setattr(network, "predict_noise", limited)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_a_batch_that_does_not_fit_the_memory_is_made_smaller(predictor, block_case, monkeypatch, error):
    expected = predictor.predict(block_case, options("ddim"))
    memory, told = Memory(predictor.network, 1, monkeypatch, error), []
    found = predictor.predict(block_case, options("ddim"), progress=told.append, slices_per_batch=5)
    assert off_by(found.dose_gy, expected.dose_gy) < ROUNDING
    assert memory.batches == [5] + [1] * 5 * 3
    assert [p.fraction for p in told] == sorted(p.fraction for p in told)
    assert told[-1].slices_done == 5


def test_a_memory_that_holds_no_smaller_batch_fails_with_a_code(predictor, block_case, monkeypatch):
    memory = Memory(predictor.network, 0, monkeypatch, OUT_OF_MEMORY[0])
    with pytest.raises(PredictionError) as error:
        predictor.predict(block_case, options("ddim"), slices_per_batch=5)
    assert error.value.rule == "out-of-memory"
    assert memory.batches == [5, 1]


def test_other_errors_of_torch_are_not_taken_for_a_lack_of_memory(predictor, block_case, monkeypatch):
    Memory(predictor.network, 0, monkeypatch, RuntimeError("shapes do not fit"))
    with pytest.raises(RuntimeError, match="shapes"):
        predictor.predict(block_case, options("ddim"), slices_per_batch=5)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_progress_only_grows_and_ends_at_one(predictor, block_case, sampler):
    told = []
    predictor.predict(block_case, options(sampler, samples=2), progress=told.append, slices_per_batch=2)
    fractions = [p.fraction for p in told]
    assert fractions == sorted(fractions)
    assert fractions[0] < 0.5
    assert fractions[-1] == 1
    assert {p.slices_total for p in told} == {5}
    assert [p.slices_done for p in told] == sorted(p.slices_done for p in told)
    assert told[-1].slices_done == 5


def test_it_stops_soon_after_it_is_cancelled(predictor, block_case):
    noise = count_calls(predictor.network.predictor)
    with pytest.raises(Cancelled):
        predictor.predict(block_case, options("ancestral"), cancelled=lambda: len(noise) >= 4, slices_per_batch=2)
    assert len(noise) == 4


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_there_is_dose_inside_the_outline_only(predictor, block_case, sampler):
    with torch.no_grad():
        predictor.network.coarse.head.bias.fill_(1.0)
    prediction = predictor.predict(block_case, options(sampler, samples=2))
    for volume in (prediction.dose_gy, prediction.spread_gy):
        assert volume.shape == block_case.grid.shape
        assert not volume[~block_case.external].any()
        assert volume.min() >= 0
    assert prediction.dose_gy[block_case.external].mean() > 1


@pytest.mark.parametrize(("order", "flipped"), [((2, 0, 1), (True, False, True)), ((0, 1, 2), (True, True, False))])
@pytest.mark.parametrize("sampler", ["coarse", "coarse-ddim"])
def test_the_dose_lies_where_the_patient_is_however_it_is_stored(
    predictor, block_case, reorient, sampler, order, flipped
):
    case = reorient(block_case, order, flipped)
    found = predictor.predict(case, options(sampler)).dose_gy
    assert found.shape == case.grid.shape
    expected = predictor.predict(block_case, options(sampler)).dose_gy
    np.testing.assert_array_equal(case.grid.to_canonical(found), expected)


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "coarse-ddim"])
@pytest.mark.parametrize("y", [-0.5, 0.4, 2.0])
def test_a_certain_dose_comes_out_in_gray_and_is_not_cut_above(predictor, block_case, sampler, y):
    predictor.network.predictor = IdealPredictor(y)
    dose_gy = predictor.predict(block_case, options(sampler)).dose_gy
    np.testing.assert_allclose(dose_gy[block_case.external], (y + 1) / 2 * 70, atol=1e-3)


def test_samples_spread_as_the_data_do(predictor, block_case):
    predictor.network.predictor = IdealPredictor(0.4, 0.2)
    predictor.schedule = replace(predictor.schedule, steps=300, first=1e-3, last=0.05)
    prediction = predictor.predict(block_case, options("ancestral", samples=25))
    inside = block_case.external
    assert prediction.dose_gy[inside].mean() == pytest.approx(49.0, rel=0.01)
    # Eq. 8 is a little too wide; the mean of 25 samples' standard deviation is 1 % below that of the data
    assert prediction.spread_gy[inside].mean() == pytest.approx(0.2 * 70 / 2, rel=0.08)
    assert prediction.dose_gy[inside].std() == pytest.approx(0.2 * 70 / 2 / 25**0.5, rel=0.15)


def test_the_short_cut_starts_from_the_noised_coarse_dose_at_its_step(predictor, block_case):
    ideal = predictor.network.predictor = IdealPredictor(0.4)
    predictor.predict(block_case, options("coarse-ddim", steps=2))
    gamma = predictor.schedule.gamma
    assert ideal.seen == pytest.approx([float(gamma[5]), float(gamma[2])])


class NoNoise(nn.Module):
    """Keeps what it is given and finds no noise in it."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[Tensor] = []

    def forward(self, structure: tuple[Tensor, ...], noisy: Tensor, gamma: Tensor) -> Tensor:
        self.given.append(noisy)
        return torch.zeros_like(noisy)


def test_the_short_cut_noises_the_coarse_dose_which_is_none_outside_the_patient(predictor, block_case, small_manifest):
    given = predictor.network.predictor = NoNoise()
    with torch.no_grad():
        nn.init.zeros_(predictor.network.coarse.head.weight)
        predictor.network.coarse.head.bias.fill_(0.6)
    for seed in range(30):
        predictor.predict(block_case, options("coarse-ddim", 1, seed=seed))
    started = torch.cat(given.given).reshape(30, 5, 32, 32).numpy()
    m = small_manifest
    inside = condition(block_case, m.site, m.grid, m.channels, m.normalisation).external > 0
    gamma = float(predictor.schedule.gamma[5])
    assert started[:, inside].mean() == pytest.approx(gamma**0.5 * 0.6, abs=0.02)
    assert started[:, ~inside].mean() == pytest.approx(-(gamma**0.5), abs=0.02)
    assert started[:, inside].var(axis=0, ddof=1).mean() == pytest.approx(1 - gamma, rel=0.03)
    noise = (started - started.mean(axis=0)).reshape(150, -1)  # every slice of every seed has its own
    assert np.abs(np.corrcoef(noise) - np.eye(150)).max() < 0.25


def test_the_coarse_dose_is_the_encoders_own(predictor, block_case, small_manifest):
    m = small_manifest
    x = condition(block_case, m.site, m.grid, m.channels, m.normalisation).structure_images(range(5))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        y = predictor.network.coarse(predictor.network.encoder(torch.from_numpy(x)))[:, 0].numpy()
    # The network's centre lies on the middle of the outline: row (3 + 17) // 2 = 10, column (4 + 20) // 2 = 12
    expected = np.maximum((y + 1) / 2 * 70, 0)[:, 16 - 10 : 16 + 11, 16 - 12 : 16 + 13]
    found = predictor.predict(block_case, options("coarse")).dose_gy
    inside = block_case.external[1:6]
    assert off_by(found[1:6][inside], expected[inside]) < ROUNDING
    assert not found[0].any()


class Shows(nn.Module):
    """Shows the CT as the dose."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sizes.append(tuple(x.shape[2:]))
        return x[:, :1].float()


def test_windows_around_the_patient_lie_where_the_whole_images_do(predictor, block_case, monkeypatch):
    shows = Shows()
    monkeypatch.setattr(predictor.network, "encode", lambda x: (x,))
    monkeypatch.setattr(predictor.network, "coarse_dose", lambda features: shows(features[0]))
    grid = predictor.manifest.grid.model_copy(update={"rows": 64, "columns": 80})
    moved = block_case.external.copy()
    moved[1] = False
    moved[1, 3:5, 4:6] = True  # its window lies elsewhere than those of the other slices
    structures = block_case.structures | {EXTERNAL: Structure(EXTERNAL, moved, "external")}
    case = replace(block_case, structures=structures)
    doses = []
    for window in (None, (16, 16)):
        predictor.manifest = predictor.manifest.model_copy(update={"grid": grid, "smallest_window": window})
        doses.append(predictor.predict(case, options("coarse")).dose_gy)
    np.testing.assert_array_equal(doses[1], doses[0])
    assert len(np.unique(doses[0])) > 100
    assert shows.sizes == [(64, 80), (16, 16), (32, 32)]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_dose_that_is_not_finite_is_refused(predictor, block_case, sampler, value):
    with torch.no_grad():
        predictor.network.coarse.head.bias.fill_(value)
        predictor.network.predictor.head[1].bias.fill_(value)
    with pytest.raises(PredictionError, match="finite"):
        predictor.predict(block_case, options(sampler))


def test_a_patient_beyond_the_networks_field_is_told(predictor, block_case):
    planned = replace(block_case, beams=(Beam((0.0,)),))
    assert not predictor.predict(planned, options("coarse")).warnings
    assert "no plan" in predictor.predict(block_case, options("coarse")).warnings[0]
    large = replace(planned, grid=replace(block_case.grid, spacing_mm=(2.5, 30.0, 10.0)))
    assert "larger than the network's field" in predictor.predict(large, options("coarse")).warnings[0]


def test_one_slice_is_enough(predictor, block_case):
    mask = np.zeros_like(block_case.external)
    mask[2] = block_case.external[2]
    structures = block_case.structures | {EXTERNAL: Structure(EXTERNAL, mask, "external")}
    dose_gy = predictor.predict(replace(block_case, structures=structures), options()).dose_gy
    assert dose_gy[2].any()
    assert not dose_gy[[0, 1, 3, 4, 5]].any()


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"samples": 0}, {"seed": -1}])
def test_impossible_sampling_is_refused(wrong):
    with pytest.raises(ValueError, match="at least one"):
        options(**wrong)


def test_the_defaults_are_the_checkpoints(tiny_manifest):
    defaults = SamplingOptions.by(tiny_manifest.defaults, seed=4)
    assert defaults == SamplingOptions("coarse-ddim", 2, 1, 4)


def test_a_checkpoint_predicts_what_its_network_did(tiny_models, block_case):
    checkpoint = open_checkpoint(tiny_models / "tiny")
    manifest = checkpoint.manifest
    torch.manual_seed(0)
    network = DiffDP(len(manifest.channels), manifest.architecture)
    network.load_state_dict({name: w.half().float() for name, w in network.state_dict().items()})  # as on disk
    in_memory = Predictor(network, manifest, torch.device("cpu"))
    loaded = Predictor.load(checkpoint, "cpu")
    one, other = (p.predict(block_case, options()).dose_gy for p in (in_memory, loaded))
    np.testing.assert_array_equal(one, other)


def changed_weights(tiny_models, tmp_path, change: Callable[[dict[str, Tensor]], None]) -> Checkpoint:
    folder = shutil.copytree(tiny_models / "tiny", tmp_path / "changed")
    checkpoint = open_checkpoint(folder)
    weights = load_file(checkpoint.weights)
    change(weights)
    save_file(weights, checkpoint.weights)
    return checkpoint


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.pop("encoder.stem.weight"),
        lambda w: w.update({"encoder.stem.weight": torch.zeros(1)}),
        lambda w: w.update(extra=torch.zeros(1)),
    ],
)
def test_weights_of_another_network_are_refused(tiny_models, tmp_path, change):
    with pytest.raises(CheckpointError, match="do not fit"):
        Predictor.load(changed_weights(tiny_models, tmp_path, change), "cpu")


def test_weights_that_are_no_safetensors_are_refused(tiny_models, tmp_path):
    checkpoint = changed_weights(tiny_models, tmp_path, lambda w: None)
    checkpoint.weights.write_bytes(b"PK not weights at all")
    with pytest.raises(CheckpointError, match="do not fit"):
        Predictor.load(checkpoint, "cpu")


@pytest.mark.parametrize(
    "update",
    [
        {"channels": (Channel(kind="ct"),)},
        {"architecture": {"widths": (8, 8, 8, 8, 9), "heads": 2, "groups": 4}},
    ],
)
def test_manifests_of_another_network_are_refused(tiny_models, update):
    checkpoint = open_checkpoint(tiny_models / "tiny")
    manifest = type(checkpoint.manifest).model_validate(checkpoint.manifest.model_dump() | update)
    with pytest.raises(CheckpointError, match="do not fit"):
        Predictor.load(replace(checkpoint, manifest=manifest), "cpu")


@pytest.mark.parametrize("name", ["cuda:99", "gpu", "cpu:x", ""])
def test_a_device_that_is_not_there_is_an_error(name):
    with pytest.raises(DeviceError):
        choose_device(name)


def test_cuda_is_there_or_an_error():
    if torch.cuda.is_available():
        assert choose_device("cuda").type == choose_device("auto").type == "cuda"
    else:
        assert choose_device("auto").type == "cpu"
        with pytest.raises(DeviceError, match="CUDA"):
            choose_device("cuda")


def test_samples_are_returned_when_asked_for_and_their_mean_and_spread_are_the_answer(predictor, block_case):
    found = predictor.predict(block_case, options("coarse-ddim", samples=3), keep_samples=True)
    assert found.samples_gy.shape == (3, *block_case.grid.shape)
    inside = found.samples_gy.min(axis=0) > 0  # zero is a floor, which a mean of images does not see
    assert inside.any()
    np.testing.assert_allclose(found.dose_gy[inside], found.samples_gy.mean(axis=0)[inside], rtol=1e-4)
    np.testing.assert_allclose(
        found.spread_gy[inside], found.samples_gy.std(axis=0, ddof=1)[inside], rtol=1e-3, atol=1e-3
    )
    assert predictor.predict(block_case, options("coarse-ddim", samples=3)).samples_gy is None


class Painted(RegressionNetwork):
    """Answers one of its images, and an earlier output that nobody should use."""

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        assert not self.training
        self.shapes = [*getattr(self, "shapes", []), tuple(images.shape)]
        return images[:, :1] * 0 + 99, images[:, :1]


class PaintedStack(Painted):
    volumetric = True
    multiple = 4


@pytest.mark.parametrize("network", [Painted, PaintedStack])
def test_a_regression_network_answers_with_its_last_output(small_manifest, block_case, network):
    architecture = Architecture(kind="unet", widths=(8, 8, 8))
    manifest = small_manifest.model_copy(
        update={"architecture": architecture, "defaults": SamplerDefaults(sampler="regression")}
    )
    painted = network(len(manifest.channels), architecture)
    predictor = Predictor(painted, manifest, torch.device("cpu"))
    told = []
    found = predictor.predict(block_case, options("regression"), progress=told.append, slices_per_batch=2)
    conditioning = condition(block_case, manifest.site, manifest.grid, manifest.channels, manifest.normalisation)
    # The first channel is the CT, in [-1, 1]: as a dose it lies between 0 and the prescription
    ct = conditioning.structure_images(range(5))[:, 0]
    expected_gy = conditioning.framing.to_case((ct + 1) / 2 * 70) * block_case.external
    np.testing.assert_allclose(found.dose_gy, expected_gy, atol=0.3)
    assert found.spread_gy is None
    assert told[-1].fraction == 1
    channels = len(manifest.channels)
    if network is PaintedStack:
        assert painted.shapes == [(1, channels, 8, 32, 32)]  # five slices, filled up to a multiple of four
    else:
        assert [shape[0] for shape in painted.shapes] == [2, 2, 1]


@pytest.mark.parametrize(
    ("kind", "sampler"), [("diffdp", "regression"), ("baseline", "coarse"), ("unet", "ancestral"), ("unet", "coarse")]
)
def test_a_network_is_not_asked_for_what_it_cannot_do(small_manifest, block_case, kind, sampler):
    architecture = Architecture(kind=kind, widths=(8, 8, 8, 8, 8), groups=4, heads=2)
    manifest = small_manifest.model_copy(update={"architecture": architecture})
    predictor = Predictor(Painted(1, architecture), manifest, torch.device("cpu"))
    with pytest.raises(PredictionError, match=f"cannot sample by {sampler}") as refused:
        predictor.predict(block_case, options(sampler))
    assert refused.value.rule == "sampler-unknown"


def test_a_manifest_whose_default_is_impossible_is_no_manifest(small_manifest):
    with pytest.raises(ValueError, match="cannot sample by coarse-ddim"):
        type(small_manifest).model_validate(
            small_manifest.model_dump() | {"architecture": {"kind": "unet", "widths": (8, 8, 8)}}
        )


def test_a_calibrated_spread_is_that_of_the_samples_pooled_and_scaled_where_it_was_found(
    network, small_manifest, block_case
):
    found = SpreadCalibration(pooling_mm=50.0, scale=3.0, patients=1)
    defaults = small_manifest.defaults.model_copy(update={"sampler": "ddim", "steps": 3, "samples": 2})
    manifest = small_manifest.model_copy(update={"defaults": defaults, "spread": found})
    calibrated, plain = (
        Predictor(network, m, torch.device("cpu")) for m in (manifest, manifest.model_copy(update={"spread": None}))
    )
    pooled, own = (p.predict(block_case, options(samples=2)) for p in (calibrated, plain))
    assert (pooled.spread_is_calibrated, own.spread_is_calibrated) == (True, False)
    np.testing.assert_array_equal(pooled.dose_gy, own.dose_gy)
    inside = block_case.external
    spread = pooled.spread_gy[inside]
    assert np.sqrt((spread**2).mean()) == pytest.approx(3 * np.sqrt((own.spread_gy[inside] ** 2).mean()), rel=0.05)
    assert spread.std() / spread.mean() < 0.5 * own.spread_gy[inside].std() / own.spread_gy[inside].mean()
    for other in (options(steps=2, samples=2), options("ancestral", samples=2), options()):
        assert not calibrated.predict(block_case, other).spread_is_calibrated


def test_the_manifest_says_how_much_a_dose_is_smoothed_and_the_spread_follows(network, small_manifest, block_case):
    defaults = small_manifest.defaults.model_copy(update={"smoothing_mm": 4.0})
    smoothing = Predictor(network, small_manifest.model_copy(update={"defaults": defaults}), torch.device("cpu"))
    plain = Predictor(network, small_manifest, torch.device("cpu"))
    rough, smooth = (p.predict(block_case, options(samples=2)) for p in (plain, smoothing))
    inside = block_case.external
    assert np.diff(smooth.dose_gy, axis=0)[inside[1:]].std() < 0.5 * np.diff(rough.dose_gy, axis=0)[inside[1:]].std()
    assert 0 < smooth.spread_gy[inside].mean() < rough.spread_gy[inside].mean()
