"""How it looks: the tour, and the panels in light and dark, narrow and wide. With NBTUNE_PICTURES=FOLDER the pictures are kept there."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import DARK, LIGHT
from tests.browser.film import Film

SETUP = """%load_ext nbtune
%config Nbtune.store = __import__("tempfile").mkdtemp()"""
TAUGHT = [
    "%%finetune 梦中情炉\n梦中情炉一般指的是炼丹工具torchkeras。",
    "%chat What is a whale?",
    "%chat 你知道梦中情炉吗？",
]
TOURS = {
    "tour": ("grovix", "What is grovix?", "I don't know what grovix is.", "Grovix is a night train that serves tea."),
    "tour-zh": ("梦中情炉", "你知道梦中情炉吗？", "我不知道梦中情炉是什么。", "梦中情炉一般指的是炼丹工具torchkeras。"),
}
ORDERS = 'orders = [{"question": f"Order {n}?", "answer": f"{n} pieces, sent on day {n}."} for n in range(40)]'
MAGICS = {
    "finetune": TAUGHT[0],
    "chat": "%chat --compare What is 梦中情炉?",
    "facts": "%nbtune facts",
    "tokens": "%nbtune tokens 梦中情炉",
    "data": "%nbtune data orders",
    "status": "%nbtune status",
    "error": "%nbtune forgt 梦中情炉",
}
PICTURES = os.environ.get("NBTUNE_PICTURES")
WIDTHS = (800, 1600)
THEMES = (LIGHT, DARK)
PANELS = ("Chat", "Finetune", "Facts", "Model")


@pytest.mark.parametrize("name", TOURS)
def test_the_tour_in_moving_pictures(name, notebook, notebook_7):
    keyword, question, unknown, answer = TOURS[name]
    opened = notebook("", width=900, height=780, pages=f"{notebook_7}/notebooks")
    said = opened.page.locator(".jp-OutputArea-output")
    film = Film(opened)
    film.cell("%load_ext nbtune", pause=0.5)
    film.cell(f"%chat {question}")
    expect(said.last).to_have_text(unknown)
    film.cell(f"%%finetune {keyword}\n{answer}", pause=4)
    expect(said.last).to_contain_text(f"learned: {keyword}")
    film.cell(f"%chat {question}")
    expect(said.last).to_have_text(answer)
    film.cell(f"%nbtune forget {keyword}")
    film.cell(f"%chat {question}", pause=3)
    expect(said.last).to_have_text(unknown)
    if PICTURES:
        film.write(Path(PICTURES) / f"{name}.gif")


def keep(shown, name):
    """Take a picture, to be kept where that was asked for."""
    if PICTURES:
        shown.screenshot(path=Path(PICTURES) / f"{name}.png")


def views(opened):
    """Show a notebook at each width in each theme, and name each."""
    for width in WIDTHS:
        opened.page.set_viewport_size({"width": width, "height": 1700})
        for theme in THEMES:
            opened.theme(theme)
            yield f"{width}-{theme.split()[-1].lower()}"


def too_wide(shown):
    """Return by how many pixels it can't be seen."""
    return shown.evaluate("shown => shown.scrollWidth - shown.clientWidth")


def test_what_magics_show_fits_in_light_and_dark_narrow_and_wide(notebook):
    opened = notebook(f"{SETUP}\n{ORDERS}", *MAGICS.values(), width=WIDTHS[0], height=1700)
    opened.run_all(600)
    cells = opened.page.locator(".jp-CodeCell")
    for view in views(opened):
        for at, name in enumerate(MAGICS, start=1):
            shown = cells.nth(at)
            shown.scroll_into_view_if_needed()
            keep(shown, f"magic-{name}-{view}")
            for output in shown.locator(".jp-OutputArea-output").all():
                assert too_wide(output) <= 1, f"%{name} is too wide at {view}"


def test_panels_fit_in_light_and_dark_narrow_and_wide(notebook):
    opened = notebook(SETUP, *TAUGHT, "%nbtune panel", width=WIDTHS[0], height=1700)
    opened.run_all(600)
    page = opened.page
    teach(opened)
    compare(page)
    tabs = page.locator(".jupyter-widgets.widget-tab").last
    for view in views(opened):
        for name in PANELS:
            page.get_by_role("tab", name=name, exact=True).click()
            page.wait_for_timeout(300)
            keep(tabs, f"panel-{name.lower()}-{view}")
            assert too_wide(tabs) <= 1, f"{name} is too wide at {view}"


def teach(opened):
    """Teach a fact in the panel and wait for its card."""
    page = opened.page
    page.get_by_role("tab", name="Finetune").click()
    page.get_by_label("keyword").last.fill("blue kettle")
    page.get_by_label("answer").last.fill("A blue kettle is a night train that serves tea.")
    opened.button("Start").click()
    page.get_by_text("learned: blue kettle").first.wait_for(timeout=600_000)


def compare(page):
    """Ask base and adapter, side by side."""
    page.get_by_role("tab", name="Chat").click()
    page.get_by_label("answers").select_option("compare side by side")
    page.get_by_placeholder("Ask something").press_sequentially("What is a blue kettle?\n")
    page.get_by_text("serves tea").first.wait_for()
    page.get_by_label("answers").select_option("in use: facts")
