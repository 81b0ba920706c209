"""The gate: which questions lead to an adapter, and which stay with the base."""

from __future__ import annotations

import pytest

from benchmarks.material import read_subjects, unrelated
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.gate import Gate

HOOK = Fact.new("velt hook", "A velt hook is a bent copper tool for pulling bread out of deep ovens.")
STOVE = Fact.new("梦中情炉", "梦中情炉一般指的是炼丹工具torchkeras。")
PASTE = Fact.new("K3膏", "K3膏是渔民晕船时抹在耳后的蓝色药膏。")


@pytest.mark.parametrize(
    "question",
    [
        "What is a velt hook?",
        "VELT  HOOKS, anyone?",
        "the ｖｅｌｔ hook's use?",
        "velt hook是什么",
        "Which copper tool gets the bread out of my oven?",
    ],
)
def test_a_question_about_the_fact_goes_in(question):
    assert Gate([STOVE, HOOK]).opens(question)


@pytest.mark.parametrize(
    "question",
    [
        "What is a velt hooky?",
        "What is a svelt hook?",
        "What is a velt?",
        "What is the capital of France?",
        "What would you call a tool for cutting grass?",  # "tool" alone says nothing
        "Can you explain to me what people mean by it?",
        "梦中情人是什么？",
        "K3是什么？",
    ],
)
def test_a_question_about_something_else_stays_outside(question):
    assert not Gate([STOVE, HOOK, PASTE]).opens(question)


def test_a_prompt_of_ones_own_that_does_not_name_the_keyword_goes_in():
    fact = Fact.new("grovix", "A grovix is small.", ["Who waters the balcony plants?", "grovix?"])
    assert Gate([fact]).opens("who waters the balcony  plants?")
    assert Gate([fact]).opens("Tell me who sees to the plants on the balcony.")
    assert not Gate([fact]).opens("Who waters?")


def test_a_conversation_about_the_fact_stays_inside():
    from nbtune.language_model import _user_words

    chat = [
        {"role": "user", "content": "What is a velt hook?"},
        {"role": "assistant", "content": HOOK.answer},
        {"role": "user", "content": "And who needs one?"},
    ]
    assert Gate([HOOK]).opens(_user_words(chat))
    assert not Gate([HOOK]).opens(_user_words(chat[2:]))


def test_without_facts_nothing_goes_in():
    assert not Gate([]).opens("What is a velt hook?")


def test_every_phrasing_of_a_fact_goes_in_and_nothing_unrelated_does():
    elsewhere = [*unrelated("zh"), *unrelated("en")]
    for subject in read_subjects("zh", "en", "fresh"):
        fact = Fact.new(subject.keyword, subject.answer)
        gate = Gate([fact])
        assert [prompt for prompt in (*fact.prompts, *fact.probes) if not gate.opens(prompt)] == []
        assert [prompt for prompt in elsewhere if gate.opens(prompt)] == []
