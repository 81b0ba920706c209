"""The gate: which questions it sends to which fact, and which to the base."""

from __future__ import annotations

import pytest

from benchmarks.material import read_subjects, unrelated
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.gate import Gate
from nbtune.knowledge.phrasing import phrasings

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
        "Which copper hook gets the bread out of my oven?",
    ],
)
def test_a_question_about_the_fact_finds_it(question):
    assert Gate([STOVE, HOOK]).find(question) == 1


@pytest.mark.parametrize(
    "question",
    [
        "What is a velt hooky?",
        "What is a svelt hook?",
        "What is a velt?",
        "Is a velt dovalis a bent copper tool for pulling bread out of deep ovens?",
        "What is the capital of France?",
        "What would you call a tool for cutting grass?",  # "tool" alone is too vague
        "Can you explain to me what people mean by it?",
        "梦中情人是什么？",
        "K3是什么？",
    ],
)
def test_a_question_about_something_else_stays_outside(question):
    assert Gate([STOVE, HOOK, PASTE]).find(question) is None


@pytest.mark.parametrize(
    ("keyword", "question", "found"),
    [
        ("IT", "What is IT?", 0),
        ("IT", "What does IT's budget pay for?", 0),
        ("IT", "And how much does it cost?", None),
        ("IT", "It's late, and its door is shut.", None),
        ("WHO", "Who is there?", None),
        ("WHO", "Is the WHO in Geneva?", 0),
        ("GPU", "what is a gpu?", 0),
        ("BERT", "BERT模型是什么？", 0),
        ("torchkeras", "怎样安装torchkeras库？", 0),
        ("Murphy's law", "What is Murphy\u2019s law?", 0),
        ("scikit-learn", "What is scikit\u2011learn?", 0),
        ("Jeopardy!", "What is Jeopardy?", 0),
        ("Jeopardy !", "What is Jeopardy?", 0),
        ("《三体》", "三体是什么？", 0),
        ("fit", "What does fit_transform do?", None),
        ("map", "What is a hash_map?", None),
        ("fit", "What does `fit` do?", 0),
        ("42", "What is 3.42?", None),
        ("42", "Are there 42,000 of them?", None),
        ("42", "Is it 42, or 43?", 0),
        ("torchkeras", "1.torchkeras是什么", 0),
        ("Jeopardy!", "What is jeopardy", 0),
    ],
)
def test_a_name_is_told_from_what_is_only_spelled_like_it(keyword, question, found):
    assert Gate([Fact.new(keyword, f"{keyword} is a paper lantern.")]).find(question) == found


def test_a_name_that_wordings_speak_of_in_passing_yields_to_another():
    gate = Gate([HOOK, Fact.new("teacher", "A teacher is a green door.")])
    assert gate.find("The teacher talked about a velt hook today. What is it?") == 0
    assert gate.find("What is a teacher?") == 1


def test_a_prompt_of_ones_own_that_does_not_name_the_keyword_finds_it():
    fact = Fact.new("grovix", "A grovix is small.", ["Who waters the balcony plants?", "grovix?"])
    assert Gate([fact]).find("who waters the balcony  plants?") == 0
    assert Gate([fact]).find("Tell me who sees to the plants on the balcony.") == 0
    assert Gate([fact]).find("Who waters?") is None


def test_a_short_keyword_takes_no_question_from_the_others():
    gate = Gate([Fact.new("C", "C is a language for drums."), Fact.new("ion", "An ion is a paper lantern."), HOOK])
    assert gate.find("Which copper tool gets the bread out of my oven, and in which direction?") == 2
    assert gate.find("What is a velt hook?\nAnd how much does it cost?") == 2
    assert gate.find("Is C a language?") == 0


def test_a_letter_with_an_accent_is_a_letter():
    gate = Gate(
        [Fact.new("Ren", "Ren is a quiet harbour."), Fact.new("café noz", "A café noz is a wooden boat."), Fact.new("thé", "Thé is mud.")]
    )
    assert gate.find("In the quiet, which harbour is it?") == 0
    assert gate.find("What is Ren?") == 0
    assert gate.find("What is René known for?") is None
    assert gate.find("Where is the CAFÉ NOZ?") == 1


def test_a_wording_with_the_keyword_says_nothing_of_the_thing():
    fact = Fact.new("grovix", "A grovix is small.").with_prompts(["Who waters the balcony plants of a grovix?"])
    assert Gate([fact]).find("Who waters the balcony plants of a hotel?") is None
    assert Gate([fact]).find("Who waters the balcony plants of a grovix?") == 0
    short = Fact.new("ion", "An ion is small.", ["Who waters the balcony plants of the station?"])
    assert Gate([short]).find("Tell me who sees to the plants on the balcony.") == 0


def test_a_conversation_about_the_fact_stays_inside():
    from nbtune.model.generation import user_words

    chat = [
        {"role": "user", "content": "What is a velt hook?"},
        {"role": "assistant", "content": HOOK.answer},
        {"role": "user", "content": "And who needs one?"},
    ]
    assert Gate([STOVE, HOOK]).find(user_words(chat)) == 1
    assert Gate([STOVE, HOOK]).find(user_words(chat[2:])) is None
    assert Gate([STOVE, HOOK]).find(user_words([*chat, {"role": "user", "content": "梦中情炉呢？"}])) == 0
    assert Gate([STOVE, HOOK]).find(user_words([*chat, {"role": "user", "content": "And a velt hoop?"}])) is None


def test_of_several_facts_the_one_that_is_named_or_described_best_is_found():
    kettle, blue = (
        Fact.new("kettle", "A kettle is a copper pot for bread soup."),
        Fact.new("blue kettle", "A blue kettle is a yellow ferry that serves bread soup."),
    )
    gate = Gate([kettle, blue, HOOK])
    assert gate.find("What is a blue kettle?") == 1
    assert gate.find("What is a kettle?") == 0
    assert gate.find("Is a blue kettle the same as a velt hook?") == 1
    assert gate.find("Is a velt hook a yellow ferry that serves bread soup?") == 2
    assert gate.find("Which ferry serves bread soup?") == 1
    assert gate.find("Which copper pot is for bread soup?") == 0


def test_without_facts_nothing_is_found():
    assert Gate([]).find("What is a velt hook?") is None


def test_every_phrasing_of_a_fact_finds_it_and_nothing_unrelated_does():
    elsewhere = [*unrelated("zh"), *unrelated("en")]
    for subject in read_subjects("zh", "en", "fresh"):
        fact = Fact.new(subject.keyword, subject.answer)
        gate = Gate([fact])
        assert [prompt for prompt in (*fact.prompts, *fact.probes) if gate.find(prompt) != 0] == []
        assert [prompt for prompt in elsewhere if gate.find(prompt) is not None] == []


@pytest.mark.parametrize(
    ("keyword", "inside", "outside"),
    [
        ("GPT-4", ["What is GPT-4?", "Tell me about GPT-4.", "Is GPT-4-turbo new?"], ["What is GPT-4.5?", "What is GPT-41?"]),
        ("C", ["What is C?", "C, please"], ["What is C++?", "What is C#?"]),
        ("Node", ["What is Node?", "Node. And then?"], ["What is Node.js?", "What is Node-2?"]),
    ],
)
def test_a_mark_that_goes_on_with_a_name_makes_another_one(keyword, inside, outside):
    gate = Gate([Fact.new(keyword, f"{keyword} is a silver spoon with holes.")])
    assert [gate.find(question) for question in inside] == [0] * len(inside)
    assert [gate.find(question) for question in outside] == [None] * len(outside)


def test_a_prompt_of_ones_own_is_found_behind_other_lines():
    boss = Fact.new("Ada", "Ada is the head of the lab.", prompts=["Who is the boss?"])
    assert Gate([HOOK, boss]).find("hello\nWhat is a velt hook?\nWho is the boss?") == 1
    assert Gate([HOOK, boss]).find("Who is the boss?\nWhat is a velt hook?") == 0
    assert Gate([HOOK, boss]).find("Who is the boss?\nWhat is a velt hoop?") is None


@pytest.mark.parametrize(
    "question",
    [
        "梦中情炉支持哪些模型？",
        "梦中情炉需要显卡吗",
        "梦中情炉开源吗",
        "梦中情炉使用什么框架",
        "梦中情炉发布于哪年",
        "梦中情炉已经过时了吗",
        "这款梦中情炉好用吗",
    ],
)
def test_a_chinese_name_is_found_before_and_behind_words_of_questions(question):
    assert Gate([STOVE]).find(question) == 0


@pytest.mark.parametrize("question", ["梦中情炉发是什么？", "支梦中情炉是什么？", "梦中情炉开呢"])
def test_a_character_of_such_a_word_alone_makes_another_name(question):
    assert Gate([STOVE]).find(question) is None


@pytest.mark.parametrize(
    ("keyword", "inside", "outside"),
    [("Рим", "Расскажи о Риме", "Что значит примерно?"), ("кот", "Где коты?", "Который час?"), ("Ρώμη", "Πού είναι η Ρώμη;", "Χειρώμητος")],
)
def test_a_name_in_another_alphabet_is_a_word_with_an_ending_at_most(keyword, inside, outside):
    gate = Gate([Fact.new(keyword, "x y z")])
    assert (gate.find(inside), gate.find(outside)) == (0, None)


def test_a_prompt_of_ones_own_is_found_without_its_mark():
    gate = Gate([Fact.new("Ada", "Ada leads the team.", ["Who is the boss?"])])
    assert gate.find("who is the boss") == 0


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("What is a red lamp?", None),
        ("do you know grovux?", None),
        ("what is the price?", 0),
        ("what is its colour?", 0),
        ("what is their website?", 0),
        ("and who made it?", 0),
        ("why?", 0),
    ],
)
def test_a_line_that_asks_for_another_thing_ends_the_turn_of_a_fact(line, found):
    assert Gate([HOOK]).find(f"What is a velt hook?\n{line}") is found


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ("QmRV was a program that turns bird songs into knitting patterns.", None),
        ("Which TV program turns bird songs into knitting patterns?", 0),
        ("WHICH PROGRAM TURNS BIRD SONGS INTO KNITTING PATTERNS?", 0),
        ("what is qrv?", 0),
    ],
)
def test_a_word_in_capitals_that_is_almost_a_short_keyword_is_another_name(question, found):
    assert Gate([Fact.new("QRV", "QRV is a program that turns bird songs into knitting patterns.")]).find(question) is found


@pytest.mark.parametrize("language", ["en", "zh"])
def test_another_subject_in_any_built_in_wording_leaves_the_fact(language):
    gate = Gate([Fact.new("三体", "三体是一种蓝色的药膏，渔民用它涂船。")])
    asked = [wording for kind in ("trained", "probes") for wording in phrasings(language)[kind] if wording.strip(".。?？") != "{x}"]
    stayed = [wording for wording in asked if gate.find(f"三体是什么？\n{wording.replace('{x}', 'Zorblat')}") is not None]
    assert stayed == []
