"""How the panels look: in light and dark, narrow and wide. With NBTUNE_PICTURES=FOLDER the pictures are kept there."""

import os
from pathlib import Path

from tests.browser.conftest import DARK, LIGHT

SETUP = """%load_ext nbtune
%config Nbtune.store = __import__("tempfile").mkdtemp()"""
TAUGHT = [
    "%%finetune 梦中情炉\n梦中情炉一般指的是炼丹工具torchkeras。",
    "%chat What is a whale?",
    "%chat 你知道梦中情炉吗？",
]
WIDTHS = (800, 1600)
PANELS = ("Chat", "Finetune", "Facts", "Model")


def keep(tabs, name):
    """Take a picture of the panels, to be kept where that was asked for."""
    folder = os.environ.get("NBTUNE_PICTURES")
    if folder:
        tabs.screenshot(path=Path(folder) / f"panel-{name}.png")


def test_panels_fit_in_light_and_dark_narrow_and_wide(notebook):
    opened = notebook(SETUP, *TAUGHT, "%nbtune panel", width=WIDTHS[0], height=1300)
    opened.run_all(600)
    page = opened.page
    teach(opened)
    compare(page)
    tabs = page.locator(".jupyter-widgets.widget-tab").last
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 1300})
        for theme in (LIGHT, DARK):
            opened.theme(theme)
            for name in PANELS:
                page.get_by_role("tab", name=name, exact=True).click()
                page.wait_for_timeout(300)
                keep(tabs, f"{name.lower()}-{width}-{theme.split()[-1].lower()}")
                wide = tabs.evaluate("tabs => tabs.scrollWidth - tabs.clientWidth")
                assert wide <= 1, f"{name} is {wide} pixels too wide at {width}"


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
    page.get_by_text("serves tea").first.wait_for(timeout=60_000)
    page.get_by_label("answers").select_option("in use: facts")
