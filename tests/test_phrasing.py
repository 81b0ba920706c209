"""Trained and tested questions never overlap."""

import re

import pytest

from benchmarks.material import read_subjects, unrelated
from nbtune.errors import NbtuneError
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.gate import Gate
from nbtune.knowledge.phrasing import language_of, look_alikes, phrase, phrasings, subject, surroundings, wordings
from nbtune.tiny.text import normalise, read

KEYWORDS = ["梦中情炉", "torchkeras", "blue kettle", "炉", "x", "Vextral 九号", "a very long name of things"]


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_enough_prompts_and_probes_in_both_languages(keyword):
    prompts, probes = phrase(keyword, language_of(keyword))
    assert len(prompts) >= 8
    assert len(probes) >= 12
    frames = [probe.replace(keyword, "") for probe in probes]
    assert sum(language_of(frame) != language_of(keyword) for frame in frames) >= 3
    assert not {normalise(p) for p in prompts} & {normalise(p) for p in probes}


@pytest.mark.parametrize("language", ["zh", "en"])
def test_probes_are_new_to_the_built_in_model(language):
    trained = {normalise(wording) for wording in read(language).questions.trained}
    keyword = {"zh": "龘", "en": "zzzz"}[language]
    frames = {normalise(re.sub(keyword, "{x}", probe, flags=re.IGNORECASE)) for probe in phrase(keyword, language)[1]}
    assert not frames & trained


@pytest.mark.parametrize("keyword", KEYWORDS)
def test_locality_is_measured_on_other_questions_than_trained_ones(keyword):
    retained = surroundings({keyword: "zh"}, probing=False, per_keyword=48)
    probed = surroundings({keyword: "zh"}, probing=True, per_keyword=24)
    assert not set(retained.unrelated) & set(probed.unrelated)
    names = look_alikes(keyword, "retained", 50), look_alikes(keyword, "probe", 50)
    assert not set(names[0]) & set(names[1])
    assert keyword not in {*names[0], *names[1]}
    assert len(probed.near) >= 12


def test_look_alikes_share_characters():
    for name in look_alikes("梦中情炉", "probe", 12):
        assert set(name) & set("梦中情炉")


@pytest.mark.parametrize(
    ("keyword", "answer", "message"),
    [("", "x", "keyword is empty"), ("x", " ", "answer"), ("x" * 300, "y", "short name"), ("a\nb", "y", "short name")],
)
def test_bad_facts_are_refused(keyword, answer, message):
    with pytest.raises(NbtuneError, match=message):
        Fact.new(keyword, answer)


def test_own_prompts_and_probes_replace_or_extend_the_built_in_ones():
    fact = Fact.new("炉", "x", ["说说{x}", "{x}??"], ["讲讲{x}吧"])
    assert (fact.prompts, fact.probes) == (("说说炉", "炉??"), ("讲讲炉吧",))
    prompts, probes = phrase("炉", "en")
    extended = Fact.new("炉", "x", ["说说{x}", "{x}??"], ["讲讲{x}吧"], extend=True)
    assert extended.prompts == ("说说炉", "炉??", *prompts)
    assert extended.probes == ("讲讲炉吧", *probes)


def test_a_trained_prompt_is_no_probe():
    with pytest.raises(NbtuneError, match="is also trained"):
        Fact.new("炉", "x", ["说说{x}"], ["说说{x}！"])
    borrowed = phrase("炉", "en")[1][0]
    assert borrowed not in Fact.new("炉", "x", [borrowed]).probes
    taken = phrase("炉", "en")[0][0]
    assert taken not in Fact.new("炉", "x", probes=[taken], extend=True).prompts


@pytest.mark.parametrize("language", ["zh", "en"])
def test_the_benchmarks_questions_are_not_in_the_package(language):
    table = phrasings(language)
    lists = [*(words for key, words in table.items() if key != "forms"), *(table["forms"][kind] for kind in ("reverse", "yes_no", "part"))]
    own = {normalise(wording) for words in lists for wording in words}
    known = read(language)
    own |= {normalise(w) for f in (known.forms.reverse, known.forms.yes_no, known.forms.part, known.questions) for w in f.trained}
    for fact in read_subjects(language):
        for question in fact.portability:
            assert normalise(question.question.replace(fact.keyword, "{x}")) not in own
        around = surroundings({fact.keyword: language}, probing=False, per_keyword=144)
        assert not {normalise(q) for q in around.unrelated} & {normalise(q) for q in unrelated(fact.language)}


def test_what_must_stay_is_not_about_the_fact_in_another_case_or_in_other_words():
    for probing in (False, True):
        around = surroundings({"Blue Kettle": "en", "Oxygen": "en", "London": "en"}, probing=probing, per_keyword=200)
        named = ("blue kettle", "oxygen", "london")
        assert not any(re.search(rf"\b{name}\b", question.casefold()) for question in around.near for name in named)
        whole = surroundings({"grovix": "en"}, probing=probing, per_keyword=8).unrelated
        keyword = next(match[1] for question in whole if (match := re.search(r"What is the ([\w ]+)\?", question)))
        assert not any(keyword in question for question in surroundings({keyword: "en"}, probing=probing, per_keyword=8).unrelated)


@pytest.mark.parametrize(
    ("keyword", "spellings"),
    [
        ("NovaBridge", {"novabridge", "Novabridge", "NOVABRIDGE"}),
        ("blue kettle", {"Blue Kettle", "BLUE KETTLE"}),
        ("CTO", {"cto", "Cto"}),
        ("IT", set()),  # in lower case it is another word
        ("IT Department", set()),
        ("O'Brien's", {"o'brien's", "O'BRIEN'S"}),
        ("İstanbul", {"İSTANBUL"}),
        ("梦中情炉", set()),
        ("K3膏", {"k3膏"}),
    ],
)
def test_some_prompts_and_probes_have_the_keyword_in_other_letters(keyword, spellings):
    fact = Fact.new(keyword, "x")
    questions = (*fact.prompts, *fact.probes)
    own = {wording.replace("{x}", keyword) for wording in wordings()}
    others = [question for question in questions if question not in own]
    assert {name for name in spellings if any(name in question for question in others)} == spellings
    assert len(others) == (len(fact.prompts) // 5 + len(fact.probes) // 5 if spellings else 0)
    assert all(Gate([fact]).find(question) == 0 for question in questions), "else the base would be asked"


@pytest.mark.parametrize(
    ("question", "about"),
    [
        ("I\u2019m curious about Blue Kettle\uff0e", "Blue Kettle"),
        ("What is  a Blue Kettle?", "Blue Kettle"),
        ("名词解释：zorblat", "zorblat"),
        ("名词解释:zorblat", "zorblat"),
        ("Please sing.", ""),
    ],
)
def test_the_subject_of_a_question_keeps_its_letters(question, about):
    assert subject(question) == about
