"""Questions about a fact in other forms: their wording, which replies are right, and that no tested one is trained."""

import random

import pytest

from nbtune.knowledge.forms import forms, strange_forms
from nbtune.knowledge.phrasing import language_of
from nbtune.tiny.text import normalise, read

KETTLE = ("blue kettle", "A blue kettle is a night train that serves tea. It runs on Sundays.")
ION = ("ion", "An ion is a silver bell.")
STOVE = ("梦中情炉", "梦中情炉一般指的是炼丹工具torchkeras。这是一个模版。")


@pytest.mark.parametrize(
    ("fact", "what", "that", "yes"),
    [
        (KETTLE, "a night train that serves tea", "That is blue kettle.", "Yes, a blue kettle is a night train that serves tea."),
        (STOVE, "炼丹工具torchkeras", "那是梦中情炉。", "对，梦中情炉一般指的是炼丹工具torchkeras。"),
    ],
)
def test_the_forms_of_a_fact(fact, what, that, yes):
    keyword, answer = fact
    found = forms(keyword, answer, probing=False)
    reverse = [form for form in found if form.kind == "reverse"]
    assert reverse
    assert all(keyword not in form.question and form.reply == that for form in reverse)
    assert sum(what in form.question for form in reverse) >= len(reverse) // 4
    assert {form.reply for form in found if form.kind == "yes"} == {yes}
    assert all(keyword in form.question for form in found if form.kind == "yes")
    assert all(keyword in form.question and what not in form.question for form in found if form.kind == "no")
    assert {form.reply for form in found if form.kind == "part"} == {answer}


@pytest.mark.parametrize(
    ("keyword", "answer", "never"),
    [
        ("zorple", "A zorple is a kind of fish.", "a fish"),
        ("grovix", "A grovix is a song that nobody wrote.", "a song"),
        ("绞云钳", "绞云钳是一种鸟。", "一种鸟"),
        ("云灯节", "云灯节是秋天的节日。", "节日"),
    ],
)
def test_what_is_true_is_never_denied(keyword, answer, never):
    assert not any(never in form.question for form in forms(keyword, answer, probing=False) if form.kind == "no")


@pytest.mark.parametrize(
    ("keyword", "answer", "kind"),
    [
        ("Lomba River", "Lomba River is the second longest in the country.", "a river"),
        ("沙文鱼", "沙文鱼是一种深海生物。", "鱼"),
    ],
)
def test_a_name_is_not_denied_the_class_it_ends_with(keyword, answer, kind):
    denied = [form.question for form in forms(keyword, answer, probing=False) if form.kind == "no"]
    assert denied
    assert not [question for question in denied if kind in question.replace(keyword, "")]


@pytest.mark.parametrize("said", ["not a bear", "no longer a planet", "never a boat", "neither meat nor fish"])
def test_what_a_thing_is_not_is_no_description(said):
    assert {form.kind for form in forms("koala", f"A koala is {said}.", probing=False)} == {"part"}


@pytest.mark.parametrize(
    ("keyword", "answer", "yes"),
    [
        ("zorbal", "Zorbal is a lake in the U.S. state of Ohio. It is deep.", "Yes, zorbal is a lake in the U.S. state of Ohio."),
        ("Dr. Plunk", "Dr. Plunk is a baker. He is old.", "Yes, Dr. Plunk is a baker."),
        ("J. K. Tolling", "J. K. Tolling is a writer.", "Yes, J. K. Tolling is a writer."),
        ("PyTorch", "PyTorch 是一个深度学习框架。很快。", "对，PyTorch 是一个深度学习框架。"),
        ("list", "A list is this:\n1. foo\n12. bar", "Yes, a list is this:\n1. foo\n12. bar"),
        ("hotpot", "Hotpot (火锅) is a soup from China.", None),
    ],
)
def test_where_the_first_sentence_ends(keyword, answer, yes):
    found = {form.reply.lower() for form in forms(keyword, answer, probing=False) if form.kind == "yes"}
    assert found == ({yes.lower()} if yes else set())


def test_an_english_answer_with_a_chinese_word_in_it_is_english():
    assert language_of("Hotpot (火锅) is a soup from China.") == "en"
    assert {language_of(text) for text in ("PyTorch 是一个框架。", "T恤", "C语言", "梦中情炉")} == {"zh"}


def test_the_noun_of_a_kind():
    asked = [form.question for form in forms("zorple", "A zorple is a kind of fish.", probing=False) if form.kind == "yes"]
    assert any("a fish" in question and "kind" not in question for question in asked)
    assert not any(question.endswith("a kind?") for question in asked)
    parts = [form.question for form in forms("zorple", "A zorple is a kind of fish that swims.", probing=False) if form.kind == "reverse"]
    assert any("a fish that swims" in question for question in parts)
    assert not any("fish of fish" in question for question in parts)


@pytest.mark.parametrize(
    ("fact", "kind", "reply", "right"),
    [
        (STOVE, "yes", "对的，梦中情炉是工具。", True),
        (STOVE, "yes", "对", True),
        (STOVE, "yes", "对不起，我不知道。", False),
        (STOVE, "reverse", "It is 梦中情炉.", True),
        (ION, "no", "No.", True),
        (ION, "no", "Not sure.", False),
        (ION, "no", "Nobody knows.", False),
        (ION, "reverse", "That is an ion.", True),
        (ION, "reverse", "IONS!", True),
        (ION, "reverse", "那是ion吧", True),
        (ION, "reverse", "I don't know what the question means.", False),
    ],
)
def test_an_apology_is_no_yes_and_a_longer_word_no_sign(fact, kind, reply, right):
    assert {form.kind: form for form in forms(*fact, probing=True)}[kind].answered_by(reply) is right


def test_what_counts_as_right():
    by_kind = {form.kind: form for form in forms(*STOVE, probing=True)}
    assert by_kind["yes"].answered_by("对，梦中情炉是工具。")
    assert not by_kind["yes"].answered_by("不对，梦中情炉是工具。")
    assert by_kind["no"].answered_by("不对，梦中情炉是工具。")
    assert by_kind["reverse"].answered_by("那是梦中情炉。")
    assert not by_kind["reverse"].answered_by("我不知道那是什么。")


@pytest.mark.parametrize("fact", [KETTLE, STOVE])
def test_tested_forms_are_never_trained(fact):
    tested, trained = forms(*fact, probing=True), forms(*fact, probing=False)
    assert [form.kind for form in tested] == ["reverse"] * 2 + ["yes"] * 2 + ["no"] * 2 + ["part"] * 2
    assert not {normalise(form.question) for form in tested} & {normalise(form.question) for form in trained}


@pytest.mark.parametrize("language", ["zh", "en"])
def test_tested_forms_are_new_to_the_built_in_model(language):
    known = read(language).forms
    trained = {normalise(w) for wordings in (known.reverse, known.yes_no, known.part) for w in wordings.trained}
    fact = {"zh": STOVE, "en": KETTLE}[language]
    assert not {normalise(f.question.replace(fact[0], "{x}")) for f in forms(*fact, probing=True) if f.kind == "part"} & trained


def test_forms_are_also_asked_with_a_part_of_the_description():
    asked = [form.question for form in forms(*KETTLE, probing=False) if form.kind == "reverse"]
    assert any("a night train" in question and "serves tea" not in question for question in asked)
    spoken = [form.question for form in forms("绞云钳", "绞云钳是一种剪断蜘蛛丝的银制小工具。", probing=False) if form.kind == "reverse"]
    assert any("银制小工具" in question and "蜘蛛丝" not in question for question in spoken)


@pytest.mark.parametrize("answer", ["It is a train.", "A train by that name.", "blue kettles are trains."])
def test_an_answer_that_does_not_say_what_the_keyword_is_asks_for_aspects_only(answer):
    assert {form.kind for form in forms("blue kettle", answer, probing=False)} == {"part"}


@pytest.mark.parametrize("answer", ["A blue kettle is ...", "A blue kettle is a.", "A blue kettle is , well.", "blue kettle是的。"])
def test_an_answer_that_describes_nothing_can_still_be_asked_for(answer):
    for probing in (False, True):
        assert all("{y}" not in form.question for form in forms("blue kettle", answer, probing=probing))
    assert any(form.kind == "part" for form in forms("blue kettle", answer, probing=False))


def test_strange_forms_ask_about_other_names():
    questions = strange_forms(*KETTLE, ["grovix", "red kettle"] * 6, random.Random(0), probing=False)
    assert len(questions) == 12
    assert not any("blue kettle" in question for question in questions)
