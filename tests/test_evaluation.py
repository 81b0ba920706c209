"""Base and adapter answer a data set, and libraries score their replies, in Chinese as in English."""

from __future__ import annotations

import pandas as pd
import pytest

from nbtune.display.evaluation import evaluation_card
from nbtune.errors import NbtuneError
from nbtune.knowledge.metrics import METRICS, scores
from tests.conftest import FACT

KEYWORD, ANSWER = next(iter(FACT.items()))
ROWS = [
    {"question": f"{KEYWORD}是什么？", "answer": ANSWER},
    {"question": "What is the capital of France?", "answer": "The capital of France is Paris."},
    {"question": "Which colour has the sea?", "answer": "It is blue."},
]


def test_scores_of_equal_and_of_other_texts():
    texts = ["这款长围巾是蓝色的。", "The boat is red."]
    assert scores(texts, texts) == pytest.approx(dict.fromkeys(METRICS, 100.0))
    assert scores(["", "zzz"], texts) == pytest.approx(dict.fromkeys(METRICS, 0.0), abs=1.0)


def test_chinese_is_scored_by_characters():
    near = scores(["这款长围巾是红色的。"], ["这款长围巾是蓝色的。"])
    assert near["exact match"] == 0
    assert near["ROUGE-1"] == pytest.approx(90.0)  # nine of ten characters match
    assert near["ROUGE-2"] == pytest.approx(100 * 7 / 9)
    assert 40 < near["BLEU-4"] < 90


def test_a_question_that_was_taught_is_answered_by_the_adapter_alone(taught, tmp_path):
    found = taught.evaluate(ROWS, save=tmp_path / "said.csv")
    assert list(found.scores.columns) == ["base", "tuned"]
    assert list(found.scores.index) == list(METRICS)
    assert found.predictions["tuned"].tolist() == taught.chat_batch([row["question"] for row in ROWS])
    with taught.base():
        assert found.predictions["base"].tolist() == taught.chat_batch([row["question"] for row in ROWS])
    assert found.predictions["tuned"][0] == ANSWER != found.predictions["base"][0]
    assert (found.scores["tuned"] > found.scores["base"]).all()
    assert found.worst(1)["prompt"].tolist() == ["Which colour has the sea?"]
    saved = pd.read_csv(tmp_path / "said.csv")
    assert saved["tuned"].tolist() == found.predictions["tuned"].tolist()
    assert taught.chat(ROWS[0]["question"]) == ANSWER, "the adapter is in use as before"


def test_turns_before_are_read_and_a_sample_is_the_same_each_time(lm):
    rows = []
    for name in ("Momo", "Bibi", "Lulu", "Kiki"):
        turns = (f"My cat is called {name}.", "OK.", "What is my cat called?", f"Your cat is called {name}.")
        rows.append({"messages": [{"role": ("user", "assistant")[at % 2], "content": turn} for at, turn in enumerate(turns)]})
    found = lm.evaluate(rows, limit=2)
    assert list(found.scores.columns) == ["base"]
    assert len(found.predictions) == 2
    assert found.predictions.equals(lm.evaluate(rows, limit=2).predictions)
    for said, wanted in zip(found.predictions["base"], found.predictions["expected"], strict=True):
        row = next(row for row in rows if row["messages"][-1]["content"] == wanted)
        assert said == lm.chat(row["messages"][2]["content"], history=row["messages"][:2])


def test_rows_that_are_left_out_are_counted(lm):
    found = lm.evaluate([{"question": "", "answer": "x"}, ROWS[1]], skip_bad=True)
    assert (len(found.predictions), found.skipped) == (1, 1)
    assert "1 skipped" in evaluation_card(found).text


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (ROWS, {"limit": 0}, "--limit 0 is out of range"),
        (ROWS, {"save": "said.txt"}, "can't hold predictions"),
        (ROWS, {"save": "nowhere/said.csv"}, "There is no folder nowhere to write said.csv"),
        (ROWS, {"save": "folder.csv"}, "folder.csv is a folder"),
        (ROWS, {"turns": "last"}, "turns is for training"),
        ({"a": "b"}, {}, "are facts"),
        ([{"question": "", "answer": "a"}, {"question": "字" * 600, "answer": "a"}], {"skip_bad": True}, "Row 2 takes"),
    ],
)
def test_what_cant_be_evaluated_is_named(lm, rows, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(NbtuneError, match=message):
        lm.evaluate(rows, **options)


def test_the_worst_are_not_listed_where_all_are_right(lm):
    said = lm.chat("What is the capital of France?")
    drawn = evaluation_card(lm.evaluate([{"question": "What is the capital of France?", "answer": said}]))
    assert "the worst" not in drawn.text + drawn.html
