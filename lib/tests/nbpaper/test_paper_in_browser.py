"""The page as a reader meets it in Chromium, with the network cut off: accessible, quiet, and fit for any width."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import matplotlib
import pytest
from axe_playwright_python.sync_playwright import Axe
from made_runs import MATRIX, make_runs, make_words
from paper_everything import everything
from paper_notebooks import code, html, md, shows
from playwright.sync_api import Browser, BrowserType, Page, expect

from nbpaper import use_paper_style
from nbpaper.fonts import folders
from nbpaper.style import svg
from peft_study.analysis import accuracy, calibration
from peft_study.analysis.costs import costs
from peft_study.report import figures

Open = Callable[..., Page]

MEASURE = """async () => {
  await document.fonts.ready;
  const faults = [], drawings = document.querySelectorAll("svg.drawing");
  const ink = text => {  // the box of a line reaches further up and down than its letters
    const box = text.getBoundingClientRect(), rim = Math.min(box.width, box.height) / 5;
    const flat = box.width > box.height, x = flat ? 0 : rim, y = flat ? rim : 0;
    return {left: box.left + x, right: box.right - x, top: box.top + y, bottom: box.bottom - y, name: text.textContent};
  };
  for (const drawing of drawings) {
    const frame = drawing.getBoundingClientRect(), elements = [...drawing.querySelectorAll("text")];
    const scale = frame.width / drawing.viewBox.baseVal.width, texts = elements.map(ink);
    elements.forEach((element, i) => {
      if (scale * parseFloat(getComputedStyle(element).fontSize) < 9) faults.push(`small: ${texts[i].name}`);
    });
    texts.forEach((a, i) => {
      const inside = a.left > frame.left - 2 && a.right < frame.right + 2 && a.top > frame.top - 2;
      if (!inside || a.bottom > frame.bottom + 2) faults.push(`clipped: ${a.name}`);
      for (const b of texts.slice(i + 1)) {
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (across > 1 && down > 1) faults.push(`overlap: ${a.name} / ${b.name}`);
      }
    });
  }
  if (window.innerWidth !== 800)
    for (const box of document.querySelectorAll(".table-scroll"))
      if (box.scrollWidth > box.clientWidth) faults.push(`scrolls: ${box.textContent.slice(0, 60)}`);
  for (const box of document.querySelectorAll("p, li, figcaption, h1, h2, h3, td, th"))
    if (box.clientWidth && box.scrollWidth > box.clientWidth + 1) faults.push(`wide: ${box.textContent.slice(0, 60)}`);
  return faults;
}"""
"""What a page shows badly: text of a figure that is clipped, small or under other text; boxes too narrow for theirs."""


@pytest.fixture(scope="module")
def browser(
    browser_type: BrowserType, browser_type_launch_args: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Browser]:
    """A browser on a machine that has one font, DejaVu Sans, whose letters are wider than those of the paper."""
    folder = tmp_path_factory.mktemp("fonts")
    shutil.copy(Path(folders()[-1]) / "DejaVuSans.ttf", folder)
    (folder / "fonts.conf").write_text(f"<fontconfig><dir>{folder}</dir><cachedir>{folder}</cachedir></fontconfig>")
    environment = {**os.environ, "FONTCONFIG_FILE": str(folder / "fonts.conf")}
    started = browser_type.launch(**browser_type_launch_args, env=environment)
    yield started
    started.close()


def study_figures() -> list[Any]:
    """The figures of a report on made runs, as cells."""
    runs = make_runs({"lora": 0.85, "s2": 0.87}, matrix=MATRIX | {"strategy": ["full", "lora", "head"], "seed": [1, 2]})
    with matplotlib.rc_context():
        use_paper_style()
        measured, against = calibration.measured(runs), accuracy.against_baseline(runs)
        drawn = [
            figures.scores(accuracy.summary(runs), runs.table, make_words().scores("accuracy"))[0],
            figures.differences(against, runs.study, runs),
            figures.cost_shares(costs(runs), "full"),
            figures.training_curves(runs.table, runs.log),
            figures.calibration(calibration.diagram(runs, measured), measured, "full"),
        ]
        pictures = [svg(figure) for figure in drawn if figure]
    return [
        [code("plot()", shows(svg=picture), label=f"fig-{i}"), md("A figure.", "caption")]
        for i, picture in enumerate(pictures)
    ]


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEFT_STUDY_HOME", str(folder))
        cells = [*everything(folder), *study_figures()]
    (folder / "paper.html").write_text(html(*cells, folder=folder), "utf-8")
    return folder / "paper.html"


@pytest.fixture
def opened(browser: Browser, paper: Path) -> Iterator[Open]:
    """Opens a file without any network; in the end, fails if a page asked for anything or complained."""
    complaints: list[str] = []

    def _note(address: str, file: Path) -> None:
        if not address.startswith("data:") and address.split("#")[0] not in (file.as_uri(), paper.as_uri()):
            complaints.append(address)

    def open_page(file: Path, width: int = 1400, scheme: Any = "light", **options: Any) -> Page:
        size: Any = {"width": width, "height": 900}
        context = browser.new_context(viewport=size, color_scheme=scheme, offline=True, **options)
        page = context.new_page()
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: _note(request.url, file))
        page.goto(file.as_uri())
        return page

    yield open_page
    for context in browser.contexts:
        context.close()
    assert complaints == []


def violations(page: Page) -> list[str]:
    page.evaluate("document.querySelectorAll('details').forEach(fold => { fold.open = true; })")
    found = Axe().run(page).response["violations"]
    return [f"{rule['id']}: {node['html'][:200]}" for rule in found for node in rule["nodes"]]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 800, 390])
def test_the_page_is_accessible_and_nothing_is_clipped(opened: Open, paper: Path, width: int, scheme: str) -> None:
    page = opened(paper, width, scheme)
    assert page.evaluate(MEASURE) == []
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_figures_follow_the_theme(opened: Open, paper: Path) -> None:
    ink = "getComputedStyle(document.querySelector('#fig-0 text')).fill"
    paper_of = "getComputedStyle(document.querySelector('#fig-0 path')).fill"  # the first path is the background
    dark, light = (opened(paper, scheme=scheme) for scheme in ("dark", "light"))
    assert [page.evaluate(ink) for page in (dark, light)] == ["rgb(223, 226, 230)", "rgb(28, 29, 32)"]
    assert [page.evaluate(paper_of) for page in (dark, light)] == ["rgb(21, 24, 28)", "rgb(255, 255, 255)"]


def test_rows_become_cards_on_a_phone(opened: Open, paper: Path) -> None:
    page = opened(paper, 390)
    heading = "getComputedStyle(document.querySelector('#tbl-wide tbody td'), '::before').content"
    assert page.evaluate(heading) == '"a heading 0"'
    assert page.locator("#tbl-wide thead").is_hidden()


def test_colours_follow_the_reader_and_are_remembered(opened: Open, paper: Path) -> None:
    page = opened(paper, scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    assert page.evaluate(background) == "rgb(21, 24, 28)"
    page.get_by_role("button", name="Light").click()
    assert page.evaluate(background) == "rgb(255, 255, 255)"
    page.reload()
    assert page.evaluate(background) == "rgb(255, 255, 255)"


def test_colours_can_be_chosen_where_storage_is_blocked(opened: Open, paper: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked.html"  # a sandboxed frame has an origin of its own, which may store nothing
    blocked.write_text(f'<iframe sandbox="allow-scripts" src="{paper.as_uri()}" width=1300 height=800></iframe>')
    page = opened(blocked)
    frame = page.frames[1]
    frame.get_by_role("button", name="Dark").click()
    assert frame.evaluate("document.documentElement.dataset.theme") == "dark"


def test_the_contents_show_where_the_reader_is(opened: Open, paper: Path) -> None:
    page = opened(paper)
    current = page.locator("nav.contents a[aria-current]")
    assert current.count() == 0
    page.evaluate("document.documentElement.style.scrollBehavior = 'auto'")
    page.locator("nav.contents a", has_text="Introduction").click()
    page.wait_for_selector("nav.contents a[aria-current]")
    assert "Introduction" in current.inner_text()
    page.mouse.wheel(0, 100_000)
    expect(current).to_contain_text("References")


def test_everything_that_folds_or_scrolls_is_reached_by_the_tab_key(opened: Open, paper: Path) -> None:
    page = opened(paper, 375)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    assert page.evaluate("document.activeElement.getBoundingClientRect().left") >= 0
    reached: list[str] = []
    while len(reached) < 200 and "body" not in reached:
        page.keyboard.press("Tab")
        reached.append(
            page.evaluate("(document.activeElement.className || document.activeElement.tagName).toLowerCase()")
        )
        assert reached[-1] == "body" or page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert {"summary", "figure-scroll", "button"} <= set(reached)
    assert "table-scroll" not in reached, "those that fit are no stops"


def test_text_in_figures_can_be_selected_and_found(opened: Open, paper: Path) -> None:
    page = opened(paper)
    label = page.locator("#fig-line text", has_text="labelled reviews")
    assert label.count() == 1
    label.select_text()
    assert page.evaluate("getSelection().toString()") == "labelled reviews"
    assert page.evaluate("window.find('accuracy (%)')")


def test_code_unfolds_with_one_button_and_without_any_script(opened: Open, paper: Path) -> None:
    page = opened(paper)
    assert not page.get_by_text("1 / 0").is_visible()
    page.get_by_role("button", name="Show all code").click()
    assert page.get_by_text("1 / 0").is_visible()
    page = opened(paper, java_script_enabled=False)
    assert page.get_by_role("button").count() == 0
    page.locator("details.code > summary").first.click()
    assert page.locator("details.code pre").first.is_visible()


def test_printing_leaves_out_what_only_a_screen_can_use(opened: Open, paper: Path) -> None:
    page = opened(paper, scheme="dark")
    page.emulate_media(media="print")
    assert not page.locator("nav.contents").is_visible()
    assert page.locator("details.code").first.is_hidden()
    assert re.search("255, 255, 255", page.evaluate("getComputedStyle(document.body).backgroundColor"))


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_of_a_real_study_is_as_accessible_and_whole(opened: Open, finished: Path, scheme: str) -> None:
    report = finished.parent.parent / "report" / finished.name / "report.html"
    for width in (1400, 390):
        page = opened(report, width, scheme)
        assert page.evaluate(MEASURE) == []
        assert violations(page) == []
