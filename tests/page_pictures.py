"""Pictures of the page with a simulated patient: ``make page-pictures``."""

import io
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from model.cohort.rectum import simulated_rectum
from model.dicom.export import write_study
from service.cli.demo import COHORT
from service.settings import Settings
from tests.browser import Visit, launch, serving
from tests.servers import free_port

MODEL = "rectum-simulated"
WINDOW = {"width": 1440, "height": 900}
PREDICTION_S = 600.0


MOST_BYTES = 195_000


def save(page: Page, path: Path) -> None:
    """Save what is seen, with as many colours as `MOST_BYTES` allows."""
    page.wait_for_timeout(700)
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    for colours in (256, 128, 64, 32):
        picture.quantize(colours, dither=Image.Dither.NONE).save(path, optimize=True)
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
    with tempfile.TemporaryDirectory() as temporary:
        study = Path(temporary) / "study"
        write_study(simulated_rectum(COHORT, 1), study)
        settings = Settings.load(data_dir=Path(temporary) / "data", port=free_port(), device="cpu")
        with serving(settings) as address:
            draw(address, study, folder)


if __name__ == "__main__":
    main()
