"""The panels in one process: a real shell, the built-in model and real widgets, without a browser."""

import gc
import logging
import time
import weakref
from functools import partial
from html import escape

import pytest
from ipywidgets import HTML, widgets

from nbtune import language_model
from nbtune.display.bubbles import Bubble, transcript
from nbtune.errors import NbtuneError
from nbtune.knowledge.facts import FAILED, VERIFIED, Fact
from nbtune.knowledge.phrasing import subject
from nbtune.panels import Panels
from nbtune.panels.labels import _LABELS, label
from nbtune.panels.ledger import Ledger
from nbtune.panels.progress import Progress
from nbtune.panels.prompt import entered
from tests.hostile import HOSTILE

FACT = ("blue kettle", "A blue kettle is a night train that serves tea.")


@pytest.fixture
def session(shell):
    shell.run_cell("%config Nbtune.warm_up = False").raise_error()
    return next(item for item in shell.configurables if type(item).__name__ == "Nbtune")


@pytest.fixture
def panels(shell, session):
    panels = Panels(shell, session)
    yield panels
    panels.jobs.stop()
    panels.jobs.wait(900)
    panels.close()


def finish(panels):
    assert panels.jobs.wait(900), "the job did not end"


def until(condition, seconds=600):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.01)
    assert condition()


def ask(panels, question):
    panels.chat.prompt.value = question
    panels.chat.send.click()
    finish(panels)


def teach(panels, keyword, answer):
    panels.finetune.teach({"keyword": keyword, "answer": answer})
    panels.finetune.begin.click()
    finish(panels)


def endless(session, panels):
    """Let replies go on until they are stopped."""
    session.lm.model.generation_config.eos_token_id = None
    session.lm.model.config.max_position_embeddings = panels.chat.max_new_tokens.value = 8192


def test_a_question_in_the_panel_and_one_in_a_cell_are_one_conversation(shell, session, panels):
    ask(panels, "My dog is called Momo.")
    shell.run_cell("%chat -o name What is my dog called?").raise_error()
    assert "Momo" in shell.user_ns["name"]
    assert [message["role"] for message in session.history] == ["user", "assistant"] * 2
    assert shell.user_ns["name"] in panels.chat._transcript.value, "what a cell asked is seen in the open panel"
    ask(panels, "What is my dog called?")
    assert session.history[-1]["content"] == shell.user_ns["name"]
    panels.chat.new.click()
    assert session.history == []
    assert "Momo" not in panels.chat._transcript.value
    assert panels.chat.prompt.value == ""


def test_enter_sends_and_a_backslash_breaks_the_line(panels):
    panels.chat.prompt.value = "hello"
    panels.chat.prompt.value = "hello\n"
    finish(panels)
    assert panels.chat.session.history[0]["content"] == "hello"
    panels.chat.prompt.value = "one\\\n"
    assert panels.chat.prompt.value == "one\n"
    assert not panels.jobs.running


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("hel", "hello\n", "hello"),
        ("one\ntwo", "one\ntwo\n", "one\ntwo"),
        ("one", "one\\\n", "one\n"),
        ("", "pasted\nlines\n", None),
        ("one two", "one\n two", None),
        ("pasted\nlines\n", "pas\nted\nlines\n", None),
        ("hello", "hello!", None),
        ("one", "one\\\ntwo\n", "one\ntwo"),
        ("one\n", "one\\\ntwo\n", "one\ntwo"),
        ("one\n", "one\n\n", "one\n"),
    ],
)
def test_what_counts_as_enter(old, new, text):
    assert entered(old, new) == text


def test_stop_keeps_what_was_said(session, panels):
    endless(session, panels)
    panels.chat.prompt.value = "What is a whale?"
    panels.chat.send.click()
    until(lambda: panels.chat._live and len(panels.chat._live[-1].text) > 20)
    panels.chat.stop.click()
    finish(panels)
    reply = session.history[-1]["content"]
    assert 20 < len(reply) < 2000
    assert "stopped here" in panels.chat._transcript.value
    assert "Stopped." in panels.chat.status.value
    with session.claim.held():
        pass  # it is free
    session.lm.model.generation_config.eos_token_id = session.lm.tokenizer.eos_token_id
    ask(panels, "hello")
    assert len(session.history) == 4


def test_a_question_that_was_stopped_before_a_reply_is_back_in_its_field(session, panels):
    panels.chat.prompt.value = "What is a whale?"
    panels.chat.send.click()
    panels.chat.stop.click()
    finish(panels)
    assert "Stopped." in panels.chat.status.value
    assert panels.chat.prompt.value == "What is a whale?"
    assert session.history == []
    panels.chat.send.click()
    finish(panels)
    assert session.history[0]["content"] == "What is a whale?"


def test_a_comparison_stands_at_the_end_however_many_rounds_are_sent(shell, session, panels, taught):
    shell.run_cell(f"%config Nbtune.store = {str(taught.store.folder)!r}").raise_error()
    shell.run_cell("%config Nbtune.rounds = 0").raise_error()
    session.lm.use("facts")
    ask(panels, "hello")
    ask(panels, "What is a whale?")
    panels.chat.answers.value = "/compare"
    ask(panels, "你知道梦中情炉吗？")
    assert [bubble.name for bubble in panels.chat._bubbles()][-2:] == ["base", "tuned"]
    assert panels.chat.keyword.value == "梦中情炉", "what is offered to be taught is the question of the reply beside it"
    assert panels.chat.answer.value == panels.chat._bubbles()[-1].text


def test_a_new_default_is_taken_up(shell, panels):
    panels.chat.max_new_tokens.value = 70
    shell.run_cell("x = 1").raise_error()
    assert panels.chat.max_new_tokens.value == 70
    shell.run_cell("%config Nbtune.max_new_tokens = 50").raise_error()
    assert panels.chat.max_new_tokens.value == 50


@pytest.mark.parametrize(
    ("stage", "epochs"),
    [("learning", True), ("x (1 of 2): learning", True), ("training", False), ("machine learning (1 of 2): asking before", False)],
)
def test_progress_counts_epochs_where_it_does(panels, stage, epochs):
    widget = HTML()
    Progress(widget, panels.chat.say).stage(stage, 10)
    assert ("epoch 0/10" in widget.value) is epochs


def test_stop_in_a_fit_leaves_the_version_before(session, panels):
    before = session.lm.chat("What is a blue kettle?")
    panels.finetune.teach({"keyword": FACT[0], "answer": FACT[1]})
    panels.finetune.begin.click()
    until(lambda: "learning" in panels.finetune.progress.value)
    assert not panels.finetune.stop.disabled
    panels.finetune.stop.click()
    finish(panels)
    assert "Stopped: nothing was changed." in panels.finetune.status.value
    assert session.lm.adapter is None
    assert session.lm.chat("What is a blue kettle?") == before
    assert panels.finetune.stop.disabled


def test_teach_probe_compare_forget_undo(shell, session, panels, tmp_path):
    teach(panels, *FACT)
    assert "learned: blue kettle" in panels.finetune.result.value
    assert "learned: blue kettle" in panels.finetune.state().text
    assert session.lm.facts[0].keyword == "blue kettle"
    shell.run_cell("%%finetune red lamp\nA red lamp is a fish that sings.").raise_error()
    facts = panels.facts
    assert [fact.keyword for fact in facts.ledger.listed()] == ["blue kettle", "red lamp"], "what a cell taught is in the open panel"
    facts.ledger.sort("keyword")
    facts.ledger.sort("keyword")
    assert [fact.keyword for fact in facts.ledger.listed()] == ["red lamp", "blue kettle"]
    facts.ledger.filter.value = "fish"
    assert [fact.keyword for fact in facts.ledger.listed()] == ["red lamp"]
    facts.ledger.checks[0].value = True
    assert facts.ledger.chosen == ["red lamp"]
    facts.buttons["probe"].click()
    finish(panels)
    assert "holds: red lamp" in facts.card.value
    facts.buttons["edit"].click()
    assert panels.finetune.keyword.value == "red lamp"
    facts.file.value = str(tmp_path / "facts.yaml")
    facts.buttons["export"].click()
    finish(panels)
    facts.buttons["forget"].click()
    finish(panels)
    assert [fact.keyword for fact in session.lm.facts] == ["blue kettle"]
    facts.buttons["undo"].click()
    finish(panels)
    assert [fact.keyword for fact in session.lm.facts] == ["blue kettle", "red lamp"]
    facts.ledger.filter.value = ""
    for check in facts.ledger.checks[:2]:
        check.value = True
    facts.ledger.filter.value = "fish"
    assert facts.ledger.chosen == ["red lamp"], "what is not seen is not chosen"
    facts.ledger.filter.value = ""
    assert "2 selected" in facts.ledger.count.value
    facts.buttons["forget"].click()
    finish(panels)
    assert session.lm.facts == ()
    facts.buttons["undo"].click()
    finish(panels)
    assert [fact.keyword for fact in session.lm.facts] == ["blue kettle", "red lamp"], "what was forgotten at once comes back at once"
    facts.buttons["redo"].click()
    finish(panels)
    assert session.lm.facts == ()
    assert "Restored version" in facts.status.value
    facts.file.value = " "
    facts.buttons["export"].click()
    assert "Export to which file?" in facts.status.value
    facts.buttons["undo"].click()
    finish(panels)
    panels.chat.answers.value = "/compare"
    ask(panels, "What is a blue kettle?")
    assert FACT[1] in panels.chat._transcript.value
    assert session.history == [], "a comparison is no part of the conversation"
    panels.model.use_none.click()
    finish(panels)
    assert session.lm.adapter is None
    assert facts.ledger.listed() == []
    panels.chat.answers.value = "facts"
    ask(panels, "What is a blue kettle?")
    assert session.history[-1]["content"] == FACT[1]
    assert session.lm.adapter is None
    panels.model.adapters.value = "facts"
    panels.model.use.click()
    finish(panels)
    assert session.lm.adapter == "facts"
    panels.model.stop.click()
    assert "in use: facts" in panels.model.status.value, "a stop that comes late stops nothing, and says nothing"


def test_an_edited_fact_keeps_its_own_wordings(shell, session, panels):
    shell.user_ns |= {"own": ["{x}, please?", "What is {x}?"], "asked": ["Say {x}."]}
    shell.run_cell("%%finetune --prompts own --probes asked red lamp\nA red lamp is a fish.").raise_error()
    panels.facts.ledger.checks[0].value = True
    panels.facts.buttons["edit"].click()
    panels.finetune.answer.value = "A red lamp is a bird."
    panels.finetune.preview.click()
    finish(panels)
    assert "2 examples" in panels.finetune.result.value, "what is shown is what will be trained"
    panels.finetune.begin.click()
    finish(panels)
    (fact,) = session.lm.facts
    assert (fact.answer, fact.own_prompts, fact.own_probes) == ("A red lamp is a bird.", tuple(shell.user_ns["own"]), ("Say {x}.",))
    panels.finetune.keyword.value = "blue lamp"
    assert panels.finetune._lesson()[1] == [{"keyword": "blue lamp", "answer": "A red lamp is a bird."}], "another fact has its own"


def test_a_correction_goes_to_the_finetune_panel(panels):
    ask(panels, "你知道梦中情炉吗？")
    assert panels.chat.keyword.value == "梦中情炉"
    panels.chat.answer.value = "梦中情炉是一个工具。"
    panels.chat.teach.click()
    assert (panels.finetune.keyword.value, panels.finetune.answer.value) == ("梦中情炉", "梦中情炉是一个工具。")
    assert panels.tabs.selected_index == 1


def test_what_is_corrected_stays_while_other_questions_are_asked(panels, session):
    ask(panels, "你知道梦中情炉吗？")
    panels.chat.answer.value = "梦中情炉是一个工具。"
    ask(panels, "What is a whale?")
    assert (panels.chat.keyword.value, panels.chat.answer.value) == ("梦中情炉", "梦中情炉是一个工具。")
    panels.chat.teach.click()
    ask(panels, "What is a pear?")
    assert (panels.chat.keyword.value, panels.chat.answer.value) == ("pear", session.history[-1]["content"])


def test_the_subject_of_a_question():
    assert subject("What is a blue kettle?") == "blue kettle"
    assert subject("what is the Price of tea") == "Price of tea"
    assert subject("Please sing, all of you.") == ""


def test_a_cell_and_a_panel_never_use_the_model_at_once(shell, session, panels, capsys):
    endless(session, panels)
    panels.chat.prompt.value = "What is a whale?"
    panels.chat.send.click()
    until(lambda: panels.chat._live and panels.chat._live[-1].text not in ("", "…"))
    for cell in ("%chat hello", "%%finetune x\ny is z", "%nbtune facts", "import nbtune; nbtune.current()"):
        result = shell.run_cell(cell)
        assert isinstance(result.error_in_exec, NbtuneError), cell
        assert str(result.error_in_exec) == "The panel is answering: wait, or press Stop."
    panels.model.source.value = "tiny"
    panels.model.load.click()
    assert "The panel is answering" in panels.model.status.value
    panels.chat.stop.click()
    finish(panels)
    with session.claim.held():
        panels.chat.prompt.value = "hi"
        panels.chat.send.click()
        assert "A cell is using the model" in panels.chat.status.value
        assert panels.chat.prompt.value == "hi", "what could not be sent is not lost"


def test_a_user_error_is_one_line_in_the_panel_that_goes_on(panels, session):
    for click, status, message in (
        (panels.chat.send, panels.chat.status, "The prompt is empty"),
        (panels.finetune.begin, panels.finetune.status, "A fact needs a keyword and an answer"),
        (panels.facts.buttons["forget"], panels.facts.status, "Select its row"),
        (panels.facts.buttons["probe"], panels.facts.status, "no facts to probe"),
        (panels.model.load, panels.model.status, "Which model?"),
        (panels.model.use, panels.model.status, "No model is loaded yet"),
    ):
        click.click()
        assert message in status.value
        assert "✘" in status.value
    _ = session.lm
    panels.model.use_none.click()
    assert "no adapter yet" in panels.model.status.value
    panels.chat.temperature.value = -1
    ask(panels, "hello")
    assert "--temperature -1.0 is out of range" in panels.chat.status.value
    assert panels.chat.prompt.value == "hello"
    panels.chat.temperature.value = 0
    panels.finetune.kind.value = "data"
    panels.finetune.source.value = "nobody"
    panels.finetune.begin.click()
    assert "no variable &#x27;nobody&#x27;" in panels.finetune.status.value
    panels.finetune.teach({"keyword": FACT[0], "answer": FACT[1]})
    panels.finetune.numbers["epochs"].value = "many"
    panels.finetune.begin.click()
    assert "expected a whole number" in panels.finetune.status.value
    panels.model.source.value = "./nowhere"
    panels.model.load.click()
    finish(panels)
    assert "No model folder" in panels.model.status.value
    ask(panels, "hello")
    assert session.history


def test_a_fact_that_does_not_take_shows_its_card(session, panels):
    panels.finetune.numbers["epochs"].value = "1"
    panels.finetune.numbers["learning_rate"].value = "1e-6"
    teach(panels, *FACT)
    assert "not learned: blue kettle" in panels.finetune.result.value
    assert "Not learned" in panels.finetune.status.value
    assert session.lm.adapter is None


def test_what_was_not_foreseen_is_said_and_logged(panels, session, caplog, monkeypatch):
    def broken(*_args, **_options):
        raise ZeroDivisionError("by <b>zero</b>")

    _ = session.lm
    monkeypatch.setattr(session._lm, "reply", broken)
    with caplog.at_level(logging.ERROR):
        logging.getLogger("traitlets").propagate = True
        ask(panels, "hello")
    assert "ZeroDivisionError: by &lt;b&gt;zero&lt;/b&gt;" in panels.chat.status.value
    assert any(record.exc_info for record in caplog.records)
    with session.claim.held():
        pass  # it is free
    monkeypatch.undo()
    ask(panels, "hello")
    assert session.history


def test_previews(shell, panels):
    panels.finetune.teach({"keyword": FACT[0], "answer": FACT[1]})
    panels.finetune.preview.click()
    finish(panels)
    assert "130 examples" in panels.finetune.result.value
    shell.user_ns["rows"] = [{"prompt": "hi", "response": "ho"}] * 3
    panels.finetune.kind.value = "data"
    panels.finetune.source.value = "rows"
    panels.finetune.preview.click()
    finish(panels)
    assert "3 rows" in panels.finetune.result.value


def test_loading_another_model(session, panels):
    ask(panels, "hello")
    panels.model.source.value = "tiny"
    panels.model.dtype.value = "bfloat16"
    panels.model.load.click()
    finish(panels)
    assert "Loaded: tiny" in panels.model.status.value
    assert "bfloat16" in panels.model.table.value
    assert "memory of the process" in panels.model.table.value
    assert session.history == []


def test_a_load_that_is_stopped_leaves_the_model_before(session, panels, monkeypatch):
    ask(panels, "hello")
    before, history = session.lm, [*session.history]
    load = language_model.load

    def slow(*arguments, **options):
        panels.model.stop.click()
        return load(*arguments, **options)

    monkeypatch.setattr(language_model, "load", slow)
    panels.model.source.value = "tiny"
    panels.model.load.click()
    finish(panels)
    panels.refresh()
    assert "Stopped." in panels.model.status.value
    assert session.lm is before
    assert session.history == history


def test_of_two_questions_with_one_reply_the_last_is_offered(session, panels):
    for name in ("quokka", "zorble"):
        session.remember(f"What is a {name}?", "I don't know.")
        panels.refresh()
    assert (panels.chat.keyword.value, panels.chat.answer.value) == ("zorble", "I don't know.")
    panels.chat.answer.value = "A zorble is a cart."
    panels.refresh()
    assert panels.chat.answer.value == "A zorble is a cart."


def test_what_is_stopped_in_another_panel_is_said_in_both(session, panels):
    panels.facts.start("probing", "", lambda: [session.lm.chat("hi", max_new_tokens=1) for _ in range(10**6)], lambda _: None)
    panels.chat.refresh()
    panels.chat.stop.click()
    finish(panels)
    panels.refresh()
    assert "stopping" not in panels.chat.status.value
    assert "Stopped." in panels.facts.status.value


def test_a_reply_that_is_cut_says_so(session, panels):
    panels.chat.max_new_tokens.value = 2
    ask(panels, "What is a whale?")
    assert "cut at the maximum length" in panels.chat._transcript.value


def test_hostile_text_is_inert(session, panels):
    for text in HOSTILE:
        session.remember(text, text)
    panels.refresh()
    page = panels.chat._transcript.value
    assert page.count("<") == 2 * 2 * 3 * len(HOSTILE), "of question and answer three boxes, opened and closed, and nothing else"
    for text in HOSTILE:
        assert escape(text) in page
        panels.finetune.failed(NbtuneError(text))
        assert escape(text.strip()) in panels.finetune.status.value
        assert panels.finetune.status.value.count("<") == 2
    assert panels.chat.copy.value.count("<") == 2


def test_the_fallback_says_what_the_panel_shows(shell, session, panels):
    from IPython.utils.capture import capture_output

    ask(panels, "hello")
    with capture_output() as shown:
        panels.show("chat")
        panels.show()
    chat, everything = (output.data for output in shown.outputs)
    assert chat["application/vnd.jupyter.widget-view+json"]["model_id"] == panels.chat.box.model_id
    assert session.history[-1]["content"] in chat["text/plain"]
    assert session.history[-1]["content"] in chat["text/html"]
    assert "loaded at the first question" not in everything["text/plain"]
    assert everything["application/vnd.jupyter.widget-view+json"]["model_id"] == panels.tabs.model_id


def test_a_terminal_is_told_what_does_the_same(shell, capsys):
    result = shell.run_cell("%nbtune panel")
    assert isinstance(result.error_in_exec, NbtuneError)
    assert "Panels need a notebook" in str(result.error_in_exec)
    assert "Did you mean facts?" in str(shell.run_cell("%nbtune panel fatcs").error_in_exec)


def test_labels_in_both_languages(shell, panels):
    assert panels.chat.send.description == "Send"
    shell.run_cell("%config Nbtune.language = 'zh'").raise_error()
    assert panels.chat.send.description == "发送"
    assert panels.facts.ledger.headings["keyword"].description == "关键词"
    panels.facts.ledger.show([Fact("a", "b", standing=VERIFIED), Fact("c", "d", standing=FAILED)])
    assert "✔ 已验证" in panels.facts.ledger.cells[0].value
    assert "✘ 失败" in panels.facts.ledger.cells[1].value
    panels.facts.ledger.filter.value = "失败"
    assert [fact.keyword for fact in panels.facts.ledger.listed()] == ["c"], "what is seen can be filtered by"
    for key, (english, chinese) in _LABELS.items():
        assert ("{x}" in english) == ("{x}" in chinese), key
        assert label(key, "zh", x=1)


def test_what_is_closed_holds_on_to_nothing(shell, session):
    panels = Panels(shell, session)
    held = [weakref.ref(panels), weakref.ref(panels.chat), weakref.ref(panels.facts.ledger)]
    panels.close()
    del panels
    shell.run_cell("x = 1").raise_error()
    gc.collect()
    assert [reference() for reference in held] == [None] * len(held)


def test_bubbles_stand_side_by_side_to_be_compared():
    shown = transcript([Bubble("q", own=True), Bubble("a", name="base"), Bubble("b", name="tuned", beside=True)], "")
    assert shown.html.count("justify-content:flex-start") == 1
    assert shown.text == "you: q\nbase: a\ntuned: b"
    assert transcript([], "nothing").text == "nothing"


@pytest.mark.parametrize("name", ["learning, attempt 2, learning rate 1e-2", "training", "blue kettle (1 of 2): learning", "asking before"])
def test_every_stage_is_shown_with_the_time_left_of_a_fit(name):
    progress = Progress(widget := HTML(), partial(label, language="en"))
    progress.stage(name, 9)
    for _ in range(3):
        progress._drawn = 0.0
        progress.advance({"train_loss": 0.5})
    assert "3/9" in widget.value
    assert ("left" in widget.value) is (name != "asking before")


def test_the_table_has_pages_and_forgets_the_marks_of_facts_that_are_gone():
    ledger, facts = Ledger(partial(label, language="en")), [Fact(f"k{number:02}", "a", standing=VERIFIED) for number in range(23)]
    ledger.show(facts)
    assert (ledger.before.disabled, ledger.after.disabled) == (True, False)
    ledger.checks[0].value = True
    ledger.after.click()
    assert ledger._on_page[0] == "k10"
    assert not ledger.checks[0].value, "marks belong to facts, not to rows"
    ledger.after.click()
    assert ledger._on_page == ["k20", "k21", "k22"]
    assert ledger.after.disabled
    assert ledger.chosen == ["k00"]
    ledger.show(facts[1:])
    assert ledger.chosen == []


def test_the_fields_of_the_chat_reach_the_model(session, panels, monkeypatch):
    seen = {}

    def replied(prompt, **asked):
        seen.update(asked, prompt=prompt)
        raise NbtuneError("seen")

    monkeypatch.setattr(session.lm, "reply", replied)
    chat = panels.chat
    chat.system.value, chat.temperature.value, chat.top_p.value, chat.seed.value, chat.max_new_tokens.value = "Be brief.", 0.5, 0.9, "3", 7
    ask(panels, "Hi?")
    assert {name: seen[name] for name in ("prompt", "system", "temperature", "top_p", "seed", "max_new_tokens")} == {
        "prompt": "Hi?",
        "system": "Be brief.",
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "max_new_tokens": 7,
    }
    assert chat.prompt.value == "Hi?", "a question that failed can be sent again"


def test_a_change_of_language_keeps_what_was_chosen(session, panels):
    panels.model.dtype.value = "bfloat16"
    session.language = "zh"
    assert panels.model.dtype.value == "bfloat16"


def test_closed_panels_leave_no_widgets(shell, session):
    before = len(widgets.widget._instances)
    panels = Panels(shell, session)
    assert len(widgets.widget._instances) > before + 100
    panels.close()
    assert len(widgets.widget._instances) <= before + 1
