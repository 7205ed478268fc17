"""The page in a real browser, before a real server with a worker."""

import csv
import json
import re
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import httpx
import numpy as np
import pydicom
import pytest
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from model.case import Case, Prescription, Structure, VoxelGrid
from service.jobs.job import Examination, Parameters, PrescriptionRecord, Sampling
from service.jobs.states import Stage
from service.pipeline.view import write_view
from service.settings import Settings
from service.storage.layout import REPORT_JSON, job_key
from service.wiring import open_jobs, open_storage
from tests.browser import PATIENCE_S, Visit, chromium, launch, required, serving, wait_until
from tests.servers import free_port

KEY = "a-key-of-enough-length"
MODEL = "tiny-rectum"
RESULTS = {
    "Dose (RTDOSE)": ".dcm",
    "Plan (RTPLAN)": ".dcm",
    "Report, PDF": ".pdf",
    "Report, HTML": ".html",
    "Report, CSV": ".csv",
    "Report, JSON": ".json",
    "All files (zip)": ".zip",
}

expect.set_options(timeout=1000 * PATIENCE_S)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if chromium() is None:
        reason = "chromium is not installed (Debian package chromium)"
        if required():
            pytest.fail(reason)
        pytest.skip(reason)
    with sync_playwright() as playwright:
        started = launch(playwright)
        yield started
        started.close()


@pytest.fixture(scope="module")
def address(browser: Browser, tmp_path_factory: pytest.TempPathFactory, tiny_models: Path) -> Iterator[str]:
    settings = Settings.load(
        data_dir=tmp_path_factory.mktemp("data"),
        model_dirs=(tiny_models,),
        device="cpu",
        port=free_port(),
        api_keys=KEY,
    )
    with serving(settings) as address:
        yield address


@pytest.fixture
def visit(browser: Browser, address: str) -> Iterator[Visit]:
    visit = Visit(browser, address, viewport={"width": 1440, "height": 900})
    visit.sign_in(KEY)
    visit.page.goto(address)
    yield visit
    visit.close()
    assert visit.faults == []


def picture(canvas: Locator) -> str:
    return canvas.evaluate("canvas => canvas.toDataURL()")


def start_endless_job(visit: Visit, study: Path, model: str = MODEL) -> None:
    """All steps of the full diffusion take far longer than any of these tests."""
    visit.drop(study)
    visit.page.get_by_label("Sampler").select_option("ancestral")
    visit.send(model)
    expect(visit.page.locator(".job-head .chip")).to_have_text("Predicting")


def test_from_drop_to_results(visit: Visit, rectum_study: Path) -> None:
    page = visit.page
    visit.drop(rectum_study)
    files = len(list(rectum_study.iterdir()))
    expect(page.locator(".chosen")).to_contain_text(f"{files} files")
    expect(page.get_by_label("Model")).to_have_accessible_description(
        re.compile(f"Trained on simulated data only: .*{MODEL}")
    )
    page.get_by_label("Model").select_option(MODEL)
    expect(page.locator(".new-study").get_by_role("note")).to_contain_text("Simulated data")
    page.get_by_label("Model").select_option("tiny")
    expect(page.locator(".new-study").get_by_role("note")).to_have_count(0)
    page.get_by_label("Seed").fill("5")
    visit.send(MODEL)
    expect(page.locator(".mapping li").filter(has_text="Bladder")).to_have_text("Bladder → Bladder")
    expect(page.locator(".job-head")).to_contain_text("50 Gy, from the plan")
    expect(page.locator(".job-head")).to_contain_text("seed 5")
    expect(page.locator(".job-head progress")).to_be_visible()
    expect(page.locator(".note")).to_contain_text("Simulated data")
    expect(page.locator(".job-head .chip")).to_have_text("Done")
    expect(page.get_by_role("note").first).to_contain_text("Not for treatment decisions")
    page.wait_for_selector(".viewer[data-ready]")


@pytest.fixture(scope="module")
def planned_job(address: str, rectum_study: Path) -> str:
    """A job of the study with a dose, done."""
    files = [("files", path.read_bytes()) for path in rectum_study.iterdir()]
    headers = {"Authorization": f"Bearer {KEY}"}
    posted = httpx.post(f"{address}/v1/jobs", files=files, params={"model": MODEL}, headers=headers, timeout=PATIENCE_S)
    job = posted.raise_for_status().json()
    wait_until(
        lambda: httpx.get(address + job["links"]["self"], headers=headers).json()["state"] == "succeeded", "dose"
    )
    return job["id"]


@pytest.fixture
def results(visit: Visit, planned_job: str) -> Page:
    """The page with a job's results."""
    visit.page.goto(f"{visit.address}/#/jobs/{planned_job}")
    visit.page.wait_for_selector(".viewer[data-ready]")
    return visit.page


def test_slices_follow_wheel_keys_and_slider(results: Page) -> None:
    axial = results.locator("[data-plane=axial]")
    title, frame, pixels = (axial.locator(part) for part in (".title", ".frame", ".pixels"))
    slider = axial.get_by_label("Axial slice")
    first, before = title.inner_text(), picture(pixels)
    frame.hover()
    results.mouse.wheel(0, 100)
    expect(title).not_to_have_text(first)
    assert picture(pixels) != before
    frame.focus()
    results.keyboard.press("ArrowUp")
    expect(title).to_have_text(first)
    assert picture(pixels) == before
    slider.fill("0")
    expect(slider).to_have_attribute("aria-valuetext", "Axial, z = −110.0 mm, slice 1 of 48")
    for key, index in (("End", "47"), ("PageDown", "37"), ("Home", "0"), ("PageUp", "10")):
        frame.press(key)
        expect(slider).to_have_value(index)


def test_a_click_moves_the_other_planes_and_the_readout_tells_what_is_there(results: Page) -> None:
    frame, sagittal = results.locator("[data-plane=axial] .frame"), results.locator("[data-plane=sagittal]")
    there = sagittal.locator(".title").inner_text()
    box = frame.bounding_box()
    results.mouse.click(box["x"] + 0.4 * box["width"], box["y"] + 0.5 * box["height"])
    expect(sagittal.locator(".title")).not_to_have_text(there)
    for part in ("CT", "HU", "Dose", "Gy", "% of 50 Gy", "Plan", "Difference", "x, y, z", "mm"):
        expect(results.locator(".readout")).to_contain_text(part)
    sagittal.get_by_role("button", name="Enlarge, sagittal").click()
    expect(sagittal).to_have_class("view large")


def test_zoom(results: Page) -> None:
    pixels = results.locator("[data-plane=axial] .pixels")
    width = pixels.bounding_box()["width"]
    results.get_by_role("button", name="Zoom in, axial").click()
    assert pixels.bounding_box()["width"] == pytest.approx(1.25 * width, rel=0.01)
    results.locator("[data-plane=axial] .frame").dblclick()
    assert pixels.bounding_box()["width"] == pytest.approx(width, rel=0.01)


def test_the_picture_is_in_the_patients_proportions(results: Page) -> None:
    for plane in ("axial", "coronal", "sagittal"):
        pixels = results.locator(f"[data-plane={plane}] .pixels")
        rows, columns = pixels.evaluate("canvas => [canvas.height, canvas.width]")
        box = pixels.bounding_box()
        row_mm = 4.0 if plane == "axial" else 6.0
        assert box["height"] / box["width"] == pytest.approx(rows * row_mm / (columns * 4.0), rel=0.01)


def test_doses_structures_and_windows_can_be_switched(results: Page) -> None:
    pixels, lines = (results.locator(f"[data-plane=axial] {part}") for part in (".pixels", ".lines"))
    panel, legend = results.locator(".panel"), results.locator(".legend")
    shown = picture(lines)
    panel.get_by_label("PTV_5000").uncheck()
    expect(legend.get_by_role("button", name="PTV_5000")).to_have_attribute("aria-pressed", "false")
    results.wait_for_timeout(200)
    assert picture(lines) != shown
    legend.get_by_role("button", name="PTV_5000").click()
    expect(panel.get_by_label("PTV_5000")).to_be_checked()
    for switch in (
        lambda: panel.get_by_label("Plan").check(),
        lambda: panel.get_by_label("Difference").check(),
        lambda: panel.get_by_label("Opacity").fill("90"),
        lambda: panel.get_by_label("Window preset").select_option("Bone"),
        lambda: panel.get_by_label("Colour wash").uncheck(),
    ):
        before = picture(pixels)
        switch()
        results.wait_for_timeout(200)
        assert picture(pixels) != before
    panel.get_by_label("% of prescription").check()
    expect(panel.locator(".levels")).to_contain_text("107 %")
    panel.get_by_label("Show from").fill("50")
    expect(panel.locator(".range output").nth(1)).to_have_text("50 %")


CIRCLES = """async () => {
    window.Path2D = class {
        lines = [];
        moveTo(x, y) { this.lines.push([[x, y]]); }
        lineTo(x, y) { this.lines.at(-1).push([x, y]); }
    };
    const { cutDose, isodose } = await import("/web/viewer/contours.js");
    const dose = Uint16Array.from({ length: 101 * 101 }, (_, i) =>
        Math.max(0, Math.round(6000 - 100 * Math.hypot((i % 101) - 50, Math.floor(i / 101) - 50))));
    const plane = { rows: 101, columns: 101, row_mm: 2, column_mm: 2, first: () => 0, rowStride: 101, columnStride: 1 };
    const cut = cutDose(dose, [5000, 3000, 1500], plane, 0);
    return [5000, 3000, 1500].map((level) => isodose(cut, level, plane).lines);
}"""
"""Isodose lines of a cone of 60 Gy that falls by 1 Gy per voxel of 2 mm, around x = y = 101 mm."""


def test_isodose_lines_of_a_cone_are_circles(visit: Visit) -> None:
    expect(visit.page.get_by_role("heading", name="Jobs")).to_be_visible()
    for lines, radius_mm in zip(visit.page.evaluate(CIRCLES), (20.0, 60.0, 90.0), strict=True):
        assert len(lines) == 1
        points = np.array(lines[0])
        np.testing.assert_array_equal(points[0], points[-1])
        # Between voxels the cone is curved, so lines between crossings lie a little inside
        np.testing.assert_allclose(np.hypot(*(points - 101.0).T), radius_mm, atol=0.05)
        length_mm = np.hypot(*np.diff(points, axis=0).T).sum()
        assert length_mm == pytest.approx(2.0 * np.pi * radius_mm, rel=2e-3)


def test_figures_goals_and_curves(results: Page) -> None:
    chart = results.locator(".chart .u-over")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    reading = results.locator(".reading")
    for share in np.linspace(0.01, 0.99, 60):
        results.mouse.move(box["x"] + share * box["width"], box["y"] + 0.5 * box["height"])
        if "of the volume gets at least" in reading.inner_text():
            break
    expect(reading).to_contain_text("of the volume gets at least")
    expect(results.locator(".figures-card")).to_contain_text("V95% (%)")
    expect(results.locator(".goals-card")).to_contain_text("D180cc ≤ 35.00 Gy")


CSV_COLUMNS = {
    "Prescribed (Gy)": "prescription_gy",
    "Volume (cc)": "volume_cc",
    "D98% (Gy)": "dose_d98_gy",
    "D95% (Gy)": "dose_d95_gy",
    "D50% (Gy)": "dose_d50_gy",
    "D2% (Gy)": "dose_d2_gy",
    "Mean (Gy)": "dose_mean_gy",
    "Max (Gy)": "dose_max_gy",
    "D0.1cc (Gy)": "dose_d0_1cc_gy",
    "D2cc (Gy)": "dose_d2cc_gy",
    "V95% (%)": "dose_v95_percent",
    "V107% (%)": "dose_v107_percent",
    "HI": "dose_homogeneity_index",
    "CI": "dose_conformity_index",
}


def figures_shown(page: Page) -> dict[str, dict[str, str]]:
    """Structure → heading → figure, as the page writes it."""
    return page.locator(".figures-card table").evaluate_all(
        """tables => Object.fromEntries(tables.flatMap(table => {
            const heads = [...table.querySelectorAll("thead th")].slice(1).map(head => head.textContent);
            return [...table.querySelectorAll("tbody tr")].map(row => [
                row.querySelector("th").textContent,
                Object.fromEntries(
                    [...row.querySelectorAll("td")].map((cell, k) => [heads[k], cell.firstChild.textContent])
                ),
            ]);
        }))"""
    )


def figures_printed(table: Path) -> dict[str, dict[str, str]]:
    with table.open(encoding="utf-8", newline="") as file:
        rows = [{name: text.replace("-", "−") or "–" for name, text in row.items()} for row in csv.DictReader(file)]
    return {row["structure"]: row for row in rows}


def cells_of_html(report: Path) -> set[str]:
    return set(re.findall(r"<td>([^<]*)", report.read_text(encoding="utf-8")))


def test_downloads(results: Page, tmp_path: Path) -> None:
    saved = {}
    for label, suffix in RESULTS.items():
        results.get_by_text("Download", exact=True).click()
        with results.expect_download() as expected:
            results.get_by_role("button", name=label).click()
        saved[label] = tmp_path / expected.value.suggested_filename
        assert saved[label].suffix == suffix
        expected.value.save_as(saved[label])
    assert pydicom.dcmread(saved["Dose (RTDOSE)"]).Modality == "RTDOSE"
    assert pydicom.dcmread(saved["Plan (RTPLAN)"]).Modality == "RTPLAN"
    assert saved["Report, PDF"].read_bytes().startswith(b"%PDF")
    assert "Not for treatment decisions" in saved["Report, HTML"].read_text(encoding="utf-8")
    assert len(list(csv.reader(saved["Report, CSV"].read_text(encoding="utf-8").splitlines()))) == 7
    assert json.loads(saved["Report, JSON"].read_text(encoding="utf-8"))["structures"]
    assert "dose.dcm" in zipfile.ZipFile(saved["All files (zip)"]).namelist()
    for structure, shown in figures_shown(results).items():
        printed = figures_printed(saved["Report, CSV"])[structure]
        assert len(shown) >= 5
        assert {heading: printed[CSV_COLUMNS[heading]] for heading in shown} == shown
        assert set(shown.values()) <= cells_of_html(saved["Report, HTML"])


def test_cancel_filter_and_delete(visit: Visit, rectum_study: Path) -> None:
    page = visit.page
    start_endless_job(visit, rectum_study)
    expect(page.locator(".job-head progress")).to_be_visible()
    job_id = page.locator(".job-head h1").get_attribute("title")
    page.get_by_role("navigation").get_by_role("link", name="Jobs").click()
    row = page.locator(f"tr[data-job='{job_id}']")
    expect(row).to_contain_text("simulated data")
    expect(row.locator(".progress")).to_contain_text("%")
    row.get_by_role("button", name="Cancel").click()
    expect(row.locator(".chip")).to_have_text("Cancelled")
    page.get_by_label("Show jobs of state").select_option("Failed")
    expect(row).to_have_count(0)
    page.get_by_label("Show jobs of state").select_option("Cancelled")
    expect(row).to_be_visible()
    # Escape keeps the job
    row.get_by_role("button", name="Delete").click()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    row.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(row).to_have_count(0)


def test_a_wrong_mapping_is_corrected_and_sent_again(visit: Visit, study: Path) -> None:
    page = visit.page
    start_endless_job(visit, study, "tiny")
    first = page.locator(".job-head h1").get_attribute("title")
    page.get_by_role("button", name="Correct …").click()
    page.get_by_label("Larynx").fill("no such ROI")
    page.get_by_role("button", name="Send again").click()
    expect(page.get_by_role("alert")).to_contain_text("override-unknown")
    page.get_by_label("Larynx").fill("Esophagus")
    page.get_by_role("button", name="Send again").click()
    expect(page.locator(".mapping li").filter(has_text="Larynx")).to_have_text("Esophagus → Larynx")
    expect(page.locator(".job-head h1")).not_to_have_attribute("title", first)
    expect(page.locator(".mapping-card")).to_contain_text("Not in the study: Esophagus")
    expect(page.locator(".note")).to_have_count(0)
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".job-head .chip")).to_have_text("Cancelled")
    page.goto(f"{visit.address}/#/jobs/{first}")
    expect(page.locator(".job-head .chip")).to_have_text("Cancelled")


def test_what_the_service_refuses_is_said_with_its_code(visit: Visit, tmp_path: Path) -> None:
    page = visit.page
    (tmp_path / "letter.txt").write_text("no study")
    visit.drop(tmp_path / "letter.txt")
    visit.page.get_by_label("Prescription in Gy").fill("fifty")
    visit.send(MODEL)
    expect(page.get_by_role("alert")).to_have_count(0)
    visit.page.get_by_label("Prescription in Gy").fill("PTV_5000 = 50")
    visit.send(MODEL)
    expect(page.get_by_role("alert")).to_contain_text("nothing-readable")
    page.goto(f"{visit.address}/#/jobs/0123456789abcdef")
    expect(page.get_by_role("alert")).to_contain_text("job-not-found")


def test_without_events_the_page_asks_again_and_again(visit: Visit, rectum_study: Path) -> None:
    visit.page.route("**/events", lambda route: route.fulfill(status=404, json={"code": "not-found"}))
    visit.drop(rectum_study)
    visit.send(MODEL)
    expect(visit.page.locator(".job-head .chip")).to_have_text("Done")


def test_a_failed_job_says_why_and_can_be_tried_again(visit: Visit, planned_job: str) -> None:
    page = visit.page
    path = f"/v1/jobs/{planned_job}"
    job = httpx.get(visit.address + path, headers={"Authorization": f"Bearer {KEY}"}).json()
    error = {"code": "quarantined", "detail": "the worker died three times", "stage": "predict", "details": {}}
    failed = {**job, "state": "failed", "error": error}
    page.route(f"**{path}", lambda route: route.fulfill(json=failed))
    page.route(f"**{path}/requeue", lambda route: route.fulfill(status=202, json=failed))
    page.goto(f"{visit.address}/#/jobs/{planned_job}")
    expect(page.locator(".job-head .chip")).to_have_text("Failed")
    expect(page.locator(".job-head")).to_contain_text("the worker died three times")
    expect(page.locator(".job-head")).to_contain_text("quarantined")
    with page.expect_request(f"**{path}/requeue") as asked:
        page.get_by_role("button", name="Try again").click()
    assert asked.value.method == "POST"


def test_names_in_east_asian_writing_have_a_font(visit: Visit, planned_job: str) -> None:
    page = visit.page
    path = f"/v1/jobs/{planned_job}"
    job = httpx.get(visit.address + path, headers={"Authorization": f"Bearer {KEY}"}).json()
    page.route(f"**{path}", lambda route: route.fulfill(json={**job, "unused_rois": ["膀胱", "ぼうこう", "방광"]}))
    with page.expect_response("**/WenQuanYiMicroHei.ttf") as font:
        page.goto(f"{visit.address}/#/jobs/{planned_job}")
    assert font.value.headers["content-type"] == "font/ttf"
    expect(page.locator(".mapping-card")).to_contain_text("Not used: 膀胱, ぼうこう, 방광")
    loaded = "document.fonts.ready.then(fonts => [...fonts].map(font => `${font.family} ${font.status}`))"
    assert page.evaluate(loaded) == ["East Asian loaded"]


def test_sign_in(browser: Browser, address: str) -> None:
    visit = Visit(browser, address)
    page = visit.page
    page.goto(address)
    field = page.get_by_label("API key")
    expect(field).to_be_focused()
    field.fill("a-key-that-is-not-it")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("unauthorised")
    field.fill(KEY)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    page.reload()
    expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(field).to_be_visible()
    assert page.evaluate("Object.keys(sessionStorage)") == []
    visit.close()
    assert visit.faults == []


def test_dark_and_light(browser: Browser, address: str) -> None:
    visit = Visit(browser, address, color_scheme="dark")
    visit.sign_in(KEY)
    page = visit.page
    page.goto(address)
    theme = "document.documentElement.dataset.theme"
    assert page.evaluate(theme) == "dark"
    page.get_by_label("Colours").select_option("Light")
    assert page.evaluate(theme) == "light"
    page.reload()
    assert page.evaluate(theme) == "light"
    page.get_by_label("Colours").select_option("System")
    assert page.evaluate(theme) == "dark"
    visit.close()
    assert visit.faults == []


@pytest.fixture
def large_job(tmp_path: Path) -> Callable[[Settings], str]:
    """Store a job of 150 slices of 512 x 512 voxels as if it had been predicted."""

    def make(settings: Settings) -> str:
        shape = (150, 512, 512)
        z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]

        def ball(at: tuple[int, int, int], size: tuple[int, int, int]) -> np.ndarray:
            (z0, y0, x0), (dz, dy, dx) = at, size
            return ((z - z0) / dz) ** 2 + ((y - y0) / dy) ** 2 + ((x - x0) / dx) ** 2 <= 1

        centre = (75, 256, 256)
        masks = {"External": ball(centre, (400, 150, 190))}
        masks |= {
            f"PTV_{dose}": ball(centre, (size, size, size)) for dose, size in ((7000, 40), (6300, 55), (5600, 70))
        }
        masks |= {f"Organ_{n}": ball((75, 256 + 14 * n, 150 + 30 * n), (60, 30, 25)) for n in range(7)}
        kinds = {name: "target" if name.startswith("PTV") else "oar" for name in masks} | {"External": "external"}
        random = np.random.default_rng(0)
        hu = np.where(masks["External"], 40, -1000) + random.integers(-30, 30, shape, dtype=np.int16)
        distance = np.sqrt(((z - 75) / 1.2) ** 2 + (y - 256) ** 2 + (x - 256) ** 2).astype(np.float32)
        dose_gy = 72.0 * np.exp(-((distance / 110) ** 4)) * masks["External"]
        case = Case(
            hu=hu.astype(np.int16),
            grid=VoxelGrid(shape, (2.0, 1.0, 1.0), (-256.0, -256.0, -150.0)),
            structures={name: Structure(name, mask, kinds[name], name, 1) for name, mask in masks.items()},
            prescription=Prescription({"PTV_7000": 70.0, "PTV_6300": 63.0, "PTV_5600": 56.0}, 35, "plan"),
        )
        examination = Examination(
            model="large", structures=(), missing=(), unused=(), slices=shape[0], warnings=(),
            prescription=PrescriptionRecord(dose_gy=dict(case.prescription.dose_gy), fractions=35, source="plan"),
            sampling=Sampling(sampler="coarse", steps=1, samples=1, seed=0),
            ct_series="1", structure_set="1",
        )  # fmt: skip
        jobs, storage, job_id = open_jobs(settings), open_storage(settings), f"{1:032x}"
        jobs.add(job_id, Parameters(), examination, content_sha256="")
        for stage in Stage:
            claimed = jobs.claim(stage, "test")
            assert claimed is not None
            output = f"{stage}-{claimed[1].token}"
            if stage is Stage.PUBLISH:
                with storage.writing(job_key(job_id, output)) as folder:
                    write_view(case, dose_gy, folder, reference_gy=0.98 * dose_gy)
                    (folder / REPORT_JSON).write_text(json.dumps(report_without_figures(kinds)))
            jobs.advance(claimed[1], stage, output=output)
        return job_id

    return make


def report_without_figures(kinds: dict[str, str]) -> dict[str, object]:
    common = {"roi_colour": None, "volume_cc": None, "prescription_gy": None, "dose": None, "reference": None}
    return {
        "prescription": {"dose_gy": {"PTV_7000": 70.0}},
        "structures": [{"name": name, "kind": kind, "difference": None, **common} for name, kind in kinds.items()],
        "goals": None,
    }


SCROLL = """async (frames) => {
    const frame = document.querySelector("[data-plane=axial] .frame");
    const next = () => new Promise(requestAnimationFrame);
    const times = [await next()];
    for (let i = 0; i < frames; i += 1) {
        const deltaY = Math.floor(i / 60) % 2 ? -100 : 100;
        frame.dispatchEvent(new WheelEvent("wheel", { deltaY, bubbles: true, cancelable: true }));
        times.push(await next());
    }
    return times.slice(1).map((time, i) => time - times[i]);
}"""


def test_a_large_study_scrolls(
    browser: Browser, large_job, tmp_path: Path, record_property, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings.load(data_dir=tmp_path / "data", port=free_port())
    job_id = large_job(settings)
    with serving(settings, worker=False) as address:
        visit = Visit(browser, address, viewport={"width": 1440, "height": 900})
        page = visit.page
        page.goto(address)
        expect(page.get_by_role("heading", name="Jobs")).to_be_visible()
        figures: dict[str, float] = dict(visit.load_ms())
        page.goto(f"{address}/#/jobs/{job_id}")
        page.wait_for_selector(".viewer[data-ready]")
        expect(page.locator("[data-plane=axial] .title")).to_have_text("Axial, z = 0.0 mm")
        devtools = visit.context.new_cdp_session(page)
        devtools.send("Performance.enable")

        def processor_s() -> float:
            metrics = devtools.send("Performance.getMetrics")["metrics"]
            return next(metric["value"] for metric in metrics if metric["name"] == "ProcessTime")

        for round_name in ("first", "again"):
            before = processor_s()
            intervals = page.evaluate(SCROLL, 120)
            figures[f"{round_name}_frames_per_s"] = round(1000 / median(intervals), 1)
            figures[f"{round_name}_worst_ms"] = round(max(intervals), 1)
            figures[f"{round_name}_processor_ms_per_frame"] = round(1000 * (processor_s() - before) / 120, 1)
        expect(page.locator("[data-plane=axial] .title")).to_have_text("Axial, z = 0.0 mm")
        visit.close()
        assert visit.faults == []
    for name, value in figures.items():
        record_property(name, value)
    with capsys.disabled():
        sys.stdout.write(f"\npage: {json.dumps(figures)}\n")


def test_the_interface_s_description_is_drawn_without_the_network(visit: Visit, address: str) -> None:
    visit.page.goto(f"{address}/docs")
    post = visit.page.locator("#operations-jobs-post_job_v1_jobs_post")
    post.click()
    expect(post).to_contain_text("prescription_gy")
    visit.page.get_by_role("button", name="Authorize").click()
    expect(visit.page.locator(".modal-ux")).to_contain_text("HTTPBearer")
