"""Pictures of the page with a simulated patient: ``make page-pictures``."""

import dataclasses
import io
import sys
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from playwright.sync_api import Page, expect, sync_playwright
from scipy.ndimage import distance_transform_edt

from model.case import Case
from model.cohort.neck import simulated_neck
from model.dicom.export import write_study
from service.settings import Settings
from tests.browser import Visit, launch, serving
from tests.servers import free_port

MODEL = "hn-openkbp"
FALL_MM = 22.0
"""Distance from a target over which the stand-in for a plan's dose falls to 1/e."""

WINDOW = {"width": 1440, "height": 900}
PREDICTION_S = 600.0


def plan_dose_gy(case: Case) -> NDArray[np.float32]:
    """Something to compare with: prescribed doses that fall off around their targets."""
    dose_gy = np.zeros(case.grid.shape, np.float32)
    for name, prescribed_gy in case.prescription.dose_gy.items():
        away_mm = distance_transform_edt(~case.structures[name].mask, sampling=case.grid.spacing_mm)
        np.maximum(dose_gy, 1.02 * prescribed_gy * np.exp(-((away_mm / FALL_MM) ** 1.3)), out=dose_gy)
    return dose_gy * case.external


MOST_BYTES = 195_000


def save(page: Page, path: Path) -> None:
    """Save what is seen, with as many bits of its colours as `MOST_BYTES` allows."""
    page.wait_for_timeout(700)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    for bits in range(8, 3, -1):
        ImageOps.posterize(picture, bits).save(path, optimize=True)
        if path.stat().st_size <= MOST_BYTES:
            return
    raise ValueError(f"{path} is too large")


def draw_list(visit: Visit, study: Path, folder: Path) -> None:
    """Draw the list with a job that runs and a study that is refused."""
    page = visit.page
    page.goto(f"{visit.address}/#/")
    visit.drop(study)
    page.get_by_label("Samples").fill("1")
    visit.send(MODEL)
    page.wait_for_selector(".job-head")
    page.goto(f"{visit.address}/#/")
    expect(page.locator(".jobs .progress").first).to_contain_text("left")
    letter = study.parent / "letter.txt"
    letter.write_text("no study")
    visit.drop(letter)
    visit.send(MODEL)
    page.wait_for_selector(".problem")
    save(page, folder / "jobs-dark.png")


def draw(address: str, study: Path, folder: Path) -> None:
    """Use the page as a dosimetrist would."""
    expect.set_options(timeout=1000 * PREDICTION_S)
    with sync_playwright() as playwright:
        browser = launch(playwright)
        visit = Visit(browser, address, viewport=WINDOW, color_scheme="light")
        page = visit.page
        page.goto(address)
        visit.drop(study)
        page.get_by_text("More", exact=True).click()
        page.get_by_label("Prescription in Gy").focus()
        save(page, folder / "new-study.png")
        visit.send(MODEL)
        expect(page.locator(".job-head .progress")).to_contain_text("left")
        page.get_by_role("button", name="Correct …").click()
        save(page, folder / "running.png")
        page.wait_for_selector(".viewer[data-ready]", timeout=1000 * PREDICTION_S)
        for _ in range(3):
            page.get_by_role("button", name="Zoom in, axial").click()
        page.locator(".panel").get_by_label("External").uncheck()
        page.locator(".panel").evaluate("panel => panel.scrollTo(0, 0)")
        page.mouse.move(0, 0)
        save(page, folder / "viewer.png")
        page.get_by_label("Colours").select_option("Dark")
        page.get_by_label("Difference").check()
        page.get_by_label("% of prescription").check()
        page.get_by_label("Isodose lines").uncheck()
        page.get_by_label("Opacity").fill("60")
        page.locator(".panel").evaluate("panel => panel.scrollTo(0, 0)")
        save(page, folder / "difference-dark.png")
        page.locator(".panel").get_by_label("Gy", exact=True).check()
        page.get_by_label("Colours").select_option("Light")
        page.get_by_role("heading", name="Dose-volume histograms").scroll_into_view_if_needed()
        page.evaluate("document.querySelector('.dvh-card').scrollIntoView()")
        chart = page.locator(".chart .u-over").bounding_box()
        assert chart is not None
        page.mouse.move(chart["x"] + 0.5 * chart["width"], chart["y"] + 0.45 * chart["height"])
        save(page, folder / "dvh.png")
        page.get_by_label("Colours").select_option("Dark")
        draw_list(visit, study, folder)
        visit.close()
        browser.close()
    assert visit.faults == [], visit.faults


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    case = simulated_neck(1, shape=(96, 256, 256), spacing_mm=(2.5, 1.95, 1.95))
    with tempfile.TemporaryDirectory() as temporary:
        study = Path(temporary) / "study"
        write_study(dataclasses.replace(case, dose_gy=plan_dose_gy(case)), study)
        settings = Settings.load(data_dir=Path(temporary) / "data", port=free_port(), device="cpu")
        with serving(settings) as address:
            draw(address, study, folder)


if __name__ == "__main__":
    main()
