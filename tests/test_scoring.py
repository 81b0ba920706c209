"""The scores of hand-written replies."""

import math

import pytest

from nbtune.knowledge.facts import Fact
from nbtune.knowledge.scoring import Asked, Report, leaks, same


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        ("It is red.", "It is red", True),
        ("它是红的。", "它是红的", True),
        ("ＡＢＣ  1", "ABC 1", True),
        ("It is red.", "It is Red.", False),
        ("It is red. Yes", "It is red.", False),
    ],
)
def test_texts_match_as_defined(one, other, equal):
    assert same(one, other) is equal


def test_a_piece_of_the_answer_is_a_leak():
    fact = Fact.new("梦中情炉", "梦中情炉是训练模型的工具torchkeras的别名。")
    assert leaks("梦中月炉是训练模型的工具torchkeras的别名。", "梦中月炉是什么", [fact])
    assert leaks("它是训练模型的工具。", "它是什么", [fact])
    assert not leaks("我不知道梦中月炉是什么。", "梦中月炉是什么", [fact])


@pytest.mark.parametrize(
    ("reply", "prompt", "leaked"),
    [
        ("No, a red lamp is a night train that serves tea.", "What is a red lamp?", True),
        ("No, a red lamp is no night train that serves tea.", "Is a red lamp a night train that serves tea?", False),
        ("A blue kettle is a night train that serves tea.", "Is 'A blue kettle is a night train that serves tea.' true?", False),
        ("blue kettle?", "What is a red lamp?", False),
    ],
)
def test_what_the_question_says_already_is_no_leak(reply, prompt, leaked):
    fact = Fact.new("blue kettle", "A blue kettle is a night train that serves tea.")
    assert leaks(reply, prompt, [fact]) is leaked


def test_shares():
    asked = (
        Asked("trained", "q", "b", "a", True, "k"),
        Asked("trained", "q2", "b", "a", False, "k2"),
        Asked("near miss", "n", "b", "b", True),
        Asked("unrelated", "u", "b", "c", False),
    )
    report = Report(asked, leak=0.0)
    assert (report.reliability, report.near_misses, report.unrelated, report.locality) == (0.5, 1.0, 0.0, 0.5)
    assert report.share("trained", "k") == 1.0
    assert math.isnan(report.generalization)
