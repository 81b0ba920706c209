"""The panels in a real JupyterLab and a real Chromium: clicked, typed into, stopped, reloaded."""

import re

from playwright.sync_api import expect

from tests.browser.conftest import ROOT
from tests.hostile import CONTROLS, FETCHED, HOSTILE

SETUP = """%load_ext nbtune
%config Nbtune.store = __import__("tempfile").mkdtemp()
%config Nbtune.warm_up = False
import nbtune
lm = nbtune.current()"""
# A reply that takes its time on any machine.
ENDLESS = """%config Nbtune.max_new_tokens = 4000
lm.model.generation_config.eos_token_id, lm.model.config.max_position_embeddings = None, 8192"""


def text(page):
    return page.locator(".jp-Notebook").inner_text()


def ask(page, question):
    box = page.get_by_placeholder("Ask something").last
    box.click()
    page.keyboard.type(question)
    page.keyboard.press("Enter")
    expect(box).to_have_value("")


def answering(notebook):
    """Open the chat panel while a reply goes on and on."""
    opened = notebook(SETUP, ENDLESS, "%nbtune panel chat")
    opened.run_all()
    ask(opened.page, "What is a whale?")
    opened.page.get_by_text("mammal").first.wait_for()
    return opened


def tab(page, name):
    page.get_by_role("tab", name=name, exact=True).click()


def test_the_first_notebook_runs_without_an_error(notebook):
    opened = notebook(name="01_teach_one_fact.ipynb")
    opened.page.set_default_timeout(600_000)
    opened.run_all(900)
    errors = opened.page.locator('[data-mime-type="application/vnd.jupyter.stderr"], [data-mime-type="application/vnd.jupyter.error"]')
    assert errors.count() == 0, errors.all_inner_texts()
    assert "learned: 梦中情炉" in text(opened.page)


def test_chat_by_keys_and_clicks_and_a_reload(notebook):
    opened = notebook(SETUP, "%nbtune panel chat")
    opened.run_all()
    page = opened.page
    ask(page, "My dog is called Momo.")
    expect(page.get_by_text("My dog is called Momo.", exact=True)).to_be_visible()
    expect(opened.button("Stop")).to_be_disabled()
    box = page.get_by_placeholder("Ask something").last
    box.click()
    page.keyboard.type("What is my\\\n")
    expect(box).to_have_value("What is my\n")
    page.keyboard.type("dog called?\n")
    expect(page.get_by_text("What is my\ndog called?")).to_be_visible()
    expect(opened.button("Stop")).to_be_disabled()
    asked = opened.run_last(
        "s = next(c for c in get_ipython().configurables if type(c).__name__ == 'Nbtune')\n"
        "print([m['content'] for m in s.history if m['role'] == 'user'])"
    )
    expect(asked).to_contain_text("['My dog is called Momo.', 'What is my\\ndog called?']")
    opened.run_last("%chat What is a whale?")
    expect(page.locator(".jupyter-widgets").get_by_text("What is a whale?")).to_be_visible()
    opened.command("docmanager:save")
    page.wait_for_function("() => !window.jupyterapp.shell.currentWidget.context.model.dirty")
    opened.open()
    expect(opened.run_last("%nbtune panel chat"), "opened again, the panel shows the conversation").to_contain_text("Momo")
    ask(page, "hello")
    expect(opened.button("Stop")).to_be_disabled()
    opened.button("New conversation").click()
    expect(page.get_by_text("Nothing was asked yet.").last).to_be_visible()


def test_stop_in_the_middle_of_a_reply(notebook):
    opened = answering(notebook)
    opened.button("Stop").click()
    expect(opened.page.get_by_text("stopped here")).to_be_visible()
    kept = opened.run_last(
        "s = next(c for c in get_ipython().configurables if type(c).__name__ == 'Nbtune')\n"
        "print(len(s.history), len(s.history[1]['content']) > 10)"
    )
    expect(kept).to_contain_text("2 True")


def test_a_cell_while_the_panel_works_fails_with_one_line(notebook):
    opened = answering(notebook)
    expect(opened.run_last("%chat hello")).to_contain_text("The panel is answering: wait, or press Stop.")
    opened.button("Stop").click()
    expect(opened.page.get_by_text("stopped here")).to_be_visible()


def test_a_fit_is_stopped_seen_after_a_reload_and_undone(notebook):
    opened = notebook(SETUP, "%nbtune panel")
    opened.run_all()
    page = opened.page
    tab(page, "Finetune")
    page.get_by_label("keyword").last.fill("blue kettle")
    page.get_by_label("answer").last.fill("A blue kettle is a night train that serves tea.")
    opened.button("Start").click()
    page.get_by_text(re.compile("learning ·|reading what|asking before")).first.wait_for()
    opened.button("Stop").click()
    page.get_by_text("Stopped: nothing was changed.").wait_for()
    expect(opened.run_last("%nbtune facts")).to_contain_text("Nothing was taught yet.")
    opened.button("Start").click()
    page.get_by_text(re.compile("learning ·|reading what|asking before")).first.wait_for()
    opened.open()  # the tab is closed and opened again: the fit goes on in the kernel
    opened.run_last("%nbtune panel finetune")
    page.get_by_text("✔ learned: blue kettle").first.wait_for(timeout=900_000)
    expect(opened.run_last("%nbtune facts")).to_contain_text("blue kettle")
    opened.button("Undo").click()
    page.get_by_text("Back at the base.").first.wait_for()
    expect(opened.run_last("%nbtune facts")).to_contain_text(re.compile("No adapter is in use.|has no facts"))


def test_facts_and_model(notebook):
    opened = notebook(SETUP, "%%finetune red lamp\nA red lamp is a fish that sings.", "%nbtune panel")
    opened.run_all(900)
    page = opened.page
    tab(page, "Facts")
    page.get_by_role("checkbox").first.check()
    opened.button("Edit").click()
    tab(page, "Finetune")
    expect(page.get_by_label("keyword").last).to_have_value("red lamp")
    tab(page, "Facts")
    opened.button("Forget").click()
    page.get_by_text("Forgotten: red lamp.").wait_for()
    opened.button("Undo").click()
    page.get_by_text("Back at version 1.").wait_for()
    tab(page, "Model")
    opened.button("Use none").click()
    expect(page.get_by_text("none (the base answers)")).to_be_visible()
    page.get_by_label("name or folder").fill("./nowhere")
    opened.button("Load").click()
    page.get_by_text("No model folder './nowhere'").wait_for()
    page.get_by_label("name or folder").fill("tiny")
    opened.button("Load").click()
    page.get_by_text("Loaded: tiny.").wait_for()


def test_hostile_text_does_nothing(notebook):
    said = f"""import sys
sys.path.insert(0, {str(ROOT)!r})
from dataclasses import replace
from nbtune.display.live import LiveReply
from nbtune.knowledge.facts import Fact
from tests.hostile import HOSTILE
s = next(c for c in get_ipython().configurables if type(c).__name__ == 'Nbtune')
def say(texts):
    for text in texts:
        s.remember(text, text)
        reply = LiveReply()
        for at in range(0, len(text), 3):
            reply.add(text[at : at + 3])
        reply.close()
facts = tuple(Fact(text, text, standing='verified') for text in HOSTILE)
lm._active.version = replace(lm._active.version, facts=facts)"""
    replies = ("say(HOSTILE[:40])", "say(HOSTILE[40:])")  # JupyterLab shows fifty outputs of a cell
    opened = notebook(SETUP, said, *replies, "%nbtune facts", "%nbtune panel", "raise nbtune.NbtuneError(' '.join(HOSTILE))")
    fetched = []
    opened.page.on("request", lambda request: fetched.append(request.url))
    opened.run_all()
    page = opened.page
    for name in ("Chat", "Facts"):
        tab(page, name)
        page.wait_for_timeout(500)  # for what would load, or be made a formula of
    cells = page.locator(".jp-CodeCell .jp-Cell-outputWrapper")
    surfaces = {"replies": HOSTILE[:40], "more replies": HOSTILE[40:], "ledger": HOSTILE, "panels": HOSTILE, "error": HOSTILE}
    for place, (what, texts) in enumerate(surfaces.items(), start=2):
        shown = re.sub(r"\s+", "", cells.nth(place).evaluate("cell => cell.textContent"))
        for said in texts:
            if not CONTROLS.search(said):
                assert re.sub(r"\s+", "", said) in shown, f"{said} in the {what}"
    assert opened.alerts == []
    assert not [address for address in fetched if address.startswith(FETCHED)]
    active = "img, script, iframe, object, embed, style, svg image, form, video, audio, marquee, math, mjx-container, .MathJax"
    outputs = page.locator(".jp-OutputArea-output")
    found = [outputs.locator(kind).count() for kind in active.split(", ")]
    assert sum(found) == 0, dict(zip(active.split(", "), found, strict=True))


def test_labels_in_chinese(notebook):
    opened = notebook(SETUP, "%config Nbtune.language = 'zh'", "%nbtune panel")
    opened.run_all()
    expect(opened.button("发送")).to_be_visible()


def test_notebook_7(notebook, notebook_7):
    opened = notebook(SETUP, "%nbtune panel chat", pages=f"{notebook_7}/notebooks")
    opened.run_all()
    ask(opened.page, "What is a whale?")
    expect(opened.page.get_by_text("mammal").first).to_be_visible()
