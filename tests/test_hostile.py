"""Text from a model, a file or a user is shown as text: no part of it is active, wherever it is cut."""

import pathlib
import sys
from html.parser import HTMLParser

import pandas as pd
import pytest

from nbtune.data.preview import Preview
from nbtune.display import live
from nbtune.display.bubbles import Bubble, transcript
from nbtune.display.evaluation import evaluation_card
from nbtune.display.facts import facts_table
from nbtune.display.heatmap import heat_map
from nbtune.display.preview import preview_card
from nbtune.display.report_card import report_card
from nbtune.display.serving import how_to_serve
from nbtune.display.shown import table
from nbtune.display.tokens import token_view
from nbtune.errors import NbtuneError
from nbtune.knowledge.evaluation import Evaluation
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.result import Result
from nbtune.knowledge.rewording import Rewordings
from nbtune.knowledge.scoring import Asked, Report
from nbtune.panels.ledger import _row
from tests.hostile import CONTROLS, HOSTILE


class Skeleton(HTMLParser):
    """The tags of a page with all their attributes, and its text."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, attrs))

    def handle_endtag(self, tag):
        self.tags.append(tag)

    def handle_data(self, data):
        self.text += data

    def handle_comment(self, data):
        self.tags.append(("comment", data))

    def handle_decl(self, decl):
        self.tags.append(("declaration", decl))

    unknown_decl = handle_pi = handle_decl


def card(text):
    asked = [Asked(kind, text, text, f"{text}!", right=False) for kind in ("trained", "held-out", "portability", "near miss", "unrelated")]
    report = Report(tuple(asked), leak=0.0)
    return report_card(Result((Fact(text, text),), report, None, "facts", rewordings={text: Rewordings((text,), 1)}, notes=(text,)))


def evaluation(text):
    predictions = pd.DataFrame([{"prompt": text, "expected": text, "base": text, "tuned": text, "chrF": 1.0}])
    scores = pd.DataFrame({"base": [1.0], "tuned": [2.0]}, index=["chrF"])
    return evaluation_card(Evaluation(predictions, scores, "facts", 1.0))


def preview(text):
    return preview_card(Preview(text, 1, ((1, text),), [[(text, True, False)]], 0, False, [], 0, ((1, text),), 256))


SHOWN = {
    "bubbles": lambda text: transcript([Bubble(text, own=True), Bubble(text, name=text, note=text), Bubble(text, beside=True)], ""),
    "no bubbles": lambda text: transcript([], text),
    "table": lambda text: table((text, "x"), [(text, text)]),
    "tokens": lambda text: token_view([[(text[:1], False, False), (text[1:3], True, False), (text[3:], True, False)]]),
    "heat map": lambda text: heat_map({text: [0.5]}, [text]),
    "ledger": lambda text: facts_table([Fact(text, text, standing=text, taught=text)], text),
    "report card": card,
    "evaluation": evaluation,
    "preview": preview,
    "serving": lambda text: how_to_serve(pathlib.Path("models") / text, "gguf"),
}


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN)
def test_text_adds_nothing_to_a_page_and_nothing_to_a_terminal(shown):
    plain = Skeleton(shown("a text of some length").html).tags
    for text in HOSTILE:
        drawn = shown(text)
        assert Skeleton(drawn.html).tags == plain, text
        assert not CONTROLS.search(drawn.text), text


@pytest.mark.parametrize("shown", SHOWN.values(), ids=SHOWN)
def test_no_blank_line_hands_the_rest_to_a_reader_of_markdown(shown):
    bundle = shown("See below.\n\n![x](http://example.invalid/p.png)\n\n# Title")._repr_mimebundle_()
    assert "\n" not in bundle["text/html"], "nbconvert copies it into Markdown, where a blank line ends the HTML"


def test_text_adds_no_attribute_to_a_row_of_the_panels_ledger():
    def names(text):
        tags = Skeleton(_row(Fact(text, text, standing=text, taught=text), text)).tags
        return [tag if isinstance(tag, str) else (tag[0], [name for name, _ in tag[1]]) for tag in tags]

    for text in HOSTILE:
        assert names(text) == names("a text"), text


def test_the_whole_text_is_shown():
    for text in HOSTILE:
        assert Skeleton(transcript([Bubble(text)], "").html).text == text
        assert Skeleton(table(("x",), [(text,)]).html).text == f"x{text}"


@pytest.fixture
def drawn(monkeypatch):
    """The outputs sent to a notebook, in order."""
    sent = []

    class Handle:
        def update(self, shown):
            sent.append(shown)

    def display(shown, **_):
        sent.append(shown)
        return Handle()

    monkeypatch.setattr(live, "in_notebook", lambda: True)
    monkeypatch.setattr(live, "display", display)
    monkeypatch.setattr(live, "_INTERVAL", 0)
    return sent


def test_a_reply_is_text_wherever_its_tokens_are_cut(drawn):
    for text in HOSTILE:
        for width in (1, 2, 5):
            drawn.clear()
            reply = live.LiveReply()
            for at in range(0, len(text), width):
                reply.add(text[at : at + width])
            reply.close()
            assert len(drawn) > len(text) // width
            for shown in drawn:
                tags = Skeleton(shown._repr_mimebundle_()["text/html"]).tags
                assert [tag if isinstance(tag, str) else tag[0] for tag in tags] == ["div", "div", "div", "div"], text
            assert Skeleton(drawn[-1].html).text == text


def test_progress_names_a_keyword_as_text(drawn):
    for text in HOSTILE:
        drawn.clear()
        bar = live.LiveProgress()
        bar.stage(f"{text} (1 of 2): learning", 10)
        bar.close()
        assert [tag[0] for tag in Skeleton(drawn[0].html).tags if not isinstance(tag, str)] == ["div", "progress"], text


def test_a_front_end_that_does_not_update_is_sent_the_whole_once(drawn):
    reply = live.LiveReply(growing=False)
    reply.wait("loading")
    for piece in ("a ", "whole ", "reply"):
        reply.add(piece)
    reply.close("[interrupted]")
    bar = live.LiveProgress(growing=False)
    bar.stage("learning", 2)
    bar.advance()
    bar.finish(table(("x",), [("done",)]))
    assert [Skeleton(shown.html).text for shown in drawn] == ["a whole reply\n[interrupted]", "xdone"]


def test_no_front_end_makes_a_formula_of_it():
    page = Skeleton(table(("x",), [("$5 and $6",)])._repr_mimebundle_()["text/html"])
    ((tag, attributes), *_) = page.tags
    assert tag == "div"
    assert {"mathjax_ignore", "tex2jax_ignore"} <= set(dict(attributes)["class"].split())


def test_a_terminal_is_sent_no_control_characters(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    for text in HOSTILE:
        reply = live.LiveReply()
        reply.wait(text)
        for character in text:
            reply.add(character)
        reply.close()
        bar = live.LiveProgress()
        bar.finish(table(("x",), [(text,)]))
        said = capsys.readouterr()
        assert not CONTROLS.search(said.out), text
        (line,) = NbtuneError(text)._render_traceback_()
        assert not CONTROLS.search(line), text


def test_lines_and_tabs_stay():
    assert table(("x",), [("a\tb",)]).text.split("\n")[1].startswith("a")
    (line,) = NbtuneError("one\n\ttwo")._render_traceback_()
    assert line == "NbtuneError: one\n\ttwo"
