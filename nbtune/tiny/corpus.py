"""Draws the conversations that the built-in model is trained and scored on.

A conversation is a list of chat messages. Training takes wordings from the trained lists and skips
every combination that `names.reserved` keeps for evaluation.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from nbtune.tiny.names import NameMaker, reserved
from nbtune.tiny.text import LANGUAGES, Personal, Text, normalise, read

__all__ = ["KIND_WEIGHTS", "Corpus", "Exchange", "Message"]

Message = dict[str, str]
# Relative frequency of each kind of exchange.
KIND_WEIGHTS = {
    "unknown": 38,
    "things": 20,
    "relations": 18,
    "forms": 20,
    "sums": 22,
    "talk": 8,
    "statements": 4,
    "told": 12,
    "personal": 3,
}
# Scripts of invented names, and their relative frequencies, by language of the question.
_SCRIPTS = {"zh": (("zh", "en", "mixed"), (60, 22, 18)), "en": (("zh", "en", "mixed"), (25, 62, 13))}
_QUOTES = ("“{}”", "「{}」", '"{}"', "'{}'", "『{}』", "`{}`", "({})", "**{}**", "《{}》", "‘{}’", "【{}】")
_SYSTEM = {
    "zh": ("你是一个乐于助人的助手。", "请简短回答。", "你是一位耐心的老师。", "你是百科全书。"),
    "en": ("You are a helpful assistant.", "Answer briefly.", "You are a patient teacher.", "You are an encyclopedia."),
}
_WIDE_MARKS, _NARROW_MARKS = "\uff1f\uff0c\uff01\uff1a", "?,!:"
_NARROW, _WIDE = str.maketrans(_WIDE_MARKS, _NARROW_MARKS), str.maketrans(_NARROW_MARKS, _WIDE_MARKS)
_FINAL_MARKS = "?.!\uff1f\u3002\uff01~"
# Share of conversations that begin with a question about the user; share of questions about relations that use an invented name.
_UNTOLD_SHARE, _UNKNOWN_RELATIONS = 0.03, 0.1
# The other forms in which a fact is asked for; the share of such questions that are about an unknown thing; the share of
# questions about a fact told in the conversation that take such a form.
_FORMS = ("reverse", "yes_no", "part")
_UNKNOWN_FORMS, _TOLD_FORMS = 0.3, 0.3
# Both numbers of a sum or difference, and the result, are between 0 and this.
_LARGEST_SUM = 20


@dataclass(frozen=True)
class Exchange:
    """A question or statement, and the reply to it."""

    prompt: str
    reply: str

    def messages(self) -> list[Message]:
        """Return the exchange as two chat messages."""
        return [{"role": "user", "content": self.prompt}, {"role": "assistant", "content": self.reply}]


@dataclass(frozen=True)
class _Fact:
    """A fact about a thing: the name "star", the subject "a star", the description "a ball of gas", and the whole sentence."""

    name: str
    subject: str
    description: str
    sentence: str


class Corpus:
    """Source of random exchanges and conversations.

    Parameters
    ----------
    pieces
        Vocabulary entries that invented names are also built from.
    weights
        Relative frequencies of kinds of exchanges that replace those in `KIND_WEIGHTS`.
    """

    def __init__(self, pieces: tuple[str, ...] = (), weights: Mapping[str, int] | None = None) -> None:
        self.texts: dict[str, Text] = {language: read(language) for language in LANGUAGES}
        words = re.findall(r"[a-z]{3,}", " ".join(" ".join(t.questions.trained + t.descriptions) for t in self.texts.values()).lower())
        known = [name for text in self.texts.values() for name in text.things]
        self.names = NameMaker(known, sorted(set(words)), pieces)
        self._kinds: dict[str, Callable[[random.Random, str], list[Exchange]]] = {
            "unknown": lambda rng, lang: [self.unknown(rng, lang)],
            "things": lambda rng, lang: [self.thing(rng, lang)],
            "relations": lambda rng, lang: [self.relation(rng, lang)],
            "forms": lambda rng, lang: [self.form(rng, lang)],
            "sums": lambda rng, lang: [self.arithmetic(rng, lang)],
            "talk": lambda rng, lang: [self.talk(rng, lang)],
            "statements": lambda rng, lang: [self.statement(rng, lang)],
            "told": self._told_and_asked,
            "personal": self._personal_and_asked,
        }
        self._weights = {**KIND_WEIGHTS, **(weights or {})}

    def conversation(self, rng: random.Random) -> list[Message]:
        """Draw one training conversation: one to three draws, each of one or more exchanges, sometimes after a system prompt."""
        language = rng.choice(LANGUAGES)
        exchanges = [self._untold(rng, language)] if rng.random() < _UNTOLD_SHARE else []
        for _ in range(rng.choices((1, 2, 3), (70, 20, 10))[0]):
            draw = self._kinds[rng.choices(list(self._weights), list(self._weights.values()))[0]]
            if rng.random() < 0.1:
                language = rng.choice(LANGUAGES)
            exchanges += draw(rng, language)
        messages = [message for exchange in exchanges for message in exchange.messages()]
        if rng.random() < 0.06:
            messages.insert(0, {"role": "system", "content": rng.choice(_SYSTEM[language])})
        return messages

    # Each of the following methods draws one exchange of its kind, and `told` and `personal` a pair. With heldout=True, training
    # never sees the wording; with heldout=False and fresh=True, it sees the wording but never this combination with a name.

    def unknown(self, rng: random.Random, language: str, *, script: str = "", heldout: bool = False, fresh: bool = False) -> Exchange:
        """Ask about an invented name; the reply repeats the name and says that it is not known."""
        text = self.texts[language]
        wording = rng.choice(text.questions.of(heldout))
        if normalise(wording) == normalise("{x}"):
            script = language  # only the name shows in which language to answer
        name = self.names.make(rng, script or rng.choices(*_SCRIPTS[language])[0], evaluation=heldout or fresh)
        return Exchange(self._dress(rng, text, wording, name, heldout or fresh), text.unknown.format(x=name))

    def thing(self, rng: random.Random, language: str, *, heldout: bool = False, fresh: bool = False) -> Exchange:
        """Ask about a known thing; the answer is in the language of its name."""
        text = self.texts[language]
        source = text if heldout or fresh or rng.random() < 0.9 else self.texts[rng.choice(LANGUAGES)]
        name, wording = self._combination(rng, sorted(source.things), text.questions.of(heldout), heldout, fresh)
        answer = source.things[name]
        if name.isascii() and not (heldout or fresh) and rng.random() < 0.15:
            name = rng.choice((name.lower(), name.upper(), name.title()))
        return Exchange(self._dress(rng, text, wording, name, heldout or fresh), answer)

    def relation(self, rng: random.Random, language: str, *, heldout: bool = False, fresh: bool = False) -> Exchange:
        """Ask for one part of a known pair, such as the capital of a country."""
        text = self.texts[language]
        relation = rng.choice(text.relations)
        values = dict(relation.pairs)
        if not (heldout or fresh) and rng.random() < _UNKNOWN_RELATIONS:
            name = self.names.make(rng, rng.choices(*_SCRIPTS[language])[0])
            asked = self._dress(rng, text, rng.choice(relation.wordings.trained), name, plain=False)
            return Exchange(asked, text.unknown.format(x=name))
        name, wording = self._combination(rng, list(values), relation.wordings.of(heldout), heldout, fresh)
        return Exchange(self._dress(rng, text, wording, name, heldout or fresh), relation.answer.format(x=name, y=values[name]))

    def form(self, rng: random.Random, language: str, *, heldout: bool = False, fresh: bool = False) -> Exchange:
        """Ask about a known thing in a form other than "what is it"; in training, sometimes about an unknown thing."""
        text, kind = self.texts[language], rng.choice(_FORMS)
        wordings: tuple[str, ...] = getattr(text.forms, kind).of(heldout)
        if not (heldout or fresh) and rng.random() < _UNKNOWN_FORMS:
            return self._unknown_form(rng, text, kind, rng.choice(wordings))
        name, wording = self._combination(rng, sorted(text.things), wordings, heldout, fresh)
        sentence = text.things[name]
        fact = _Fact(name, *text.parted(name, sentence), sentence)
        return self._in_form(rng, text, kind, wording, fact, heldout or fresh)

    def _in_form(self, rng: random.Random, text: Text, kind: str, wording: str, fact: _Fact, plain: bool) -> Exchange:
        """Ask for a fact in reverse, for yes or no, or for one aspect of it."""
        if kind == "reverse":
            return Exchange(self._dress(rng, text, wording, fact.description, plain, "{y}"), text.forms.that.format(x=fact.subject))
        if kind == "part":
            return Exchange(self._dress(rng, text, wording, fact.name, plain), fact.sentence)
        true = rng.random() < 0.5
        stated = fact.description if true else self._another(rng, text, fact.sentence)
        asked = self._dress(rng, text, wording.replace("{y}", stated), fact.subject, plain)
        confirmed = fact.subject + fact.sentence[len(fact.subject) :]  # no capital letter after "Yes, "
        return Exchange(asked, (text.forms.yes if true else text.forms.no) + confirmed)

    def _unknown_form(self, rng: random.Random, text: Text, kind: str, wording: str) -> Exchange:
        if kind == "reverse":
            return Exchange(self._dress(rng, text, wording, rng.choice(text.descriptions), False, "{y}"), text.forms.not_that)
        name = self.names.make(rng, rng.choices(*_SCRIPTS[text.language])[0])
        stated = wording.replace("{y}", self._another(rng, text, ""))
        return Exchange(self._dress(rng, text, stated, name, plain=False), text.unknown.format(x=name))

    @staticmethod
    def _another(rng: random.Random, text: Text, sentence: str) -> str:
        """Draw a description other than the one in the sentence."""
        name, other = rng.choice([known for known in text.things.items() if known[1] != sentence])
        return rng.choice((text.parted(name, other)[1], rng.choice(text.descriptions)))

    def arithmetic(self, rng: random.Random, language: str, *, heldout: bool = False, fresh: bool = False) -> Exchange:
        """Ask for a sum or a difference of small numbers."""
        text = self.texts[language]
        while True:
            total = rng.randint(0, _LARGEST_SUM)
            part = rng.randint(0, total)
            add = rng.random() < 0.65
            a, b, result = (part, total - part, total) if add else (total, part, total - part)
            wording = rng.choice((text.add if add else text.subtract).of(heldout))
            if heldout or reserved(str(a), str(b), wording) == fresh:
                break
        prompt = wording.replace("{a}", str(a)).replace("{b}", str(b))
        return Exchange(prompt, f"{a}{'+' if add else '-'}{b}={result}")

    def talk(self, rng: random.Random, language: str, *, heldout: bool = False) -> Exchange:
        """Exchange a greeting or other small talk."""
        intent = rng.choice(self.texts[language].talk)
        return Exchange(self._noise(rng, rng.choice(intent.wordings.of(heldout)), heldout), intent.reply)

    def statement(self, rng: random.Random, language: str, *, heldout: bool = False) -> Exchange:
        """Make a statement that asks for nothing."""
        text = self.texts[language]
        return Exchange(self._noise(rng, rng.choice(text.statements.of(heldout)), heldout), text.noted)

    def told(self, rng: random.Random, language: str, *, heldout: bool = False, fresh: bool = False) -> tuple[Exchange, Exchange]:
        """Tell what an invented name is; the second exchange asks about it later in the conversation."""
        text, evaluation = self.texts[language], heldout or fresh
        name = self.names.make(rng, rng.choices(*_SCRIPTS[language])[0], evaluation=evaluation)
        description = rng.choice(text.descriptions)
        statement = rng.choice(text.told_statements.of(heldout))
        said = statement.replace("{x}", name).replace("{y}", description)
        sentence = text.told.format(x=name, y=description)
        if not evaluation and rng.random() < _TOLD_FORMS:
            kind = rng.choice(_FORMS)
            wording = rng.choice(getattr(text.forms, kind).trained)
            return Exchange(said, text.noted), self._in_form(rng, text, kind, wording, _Fact(name, name, description, sentence), False)
        asked = self._dress(rng, text, rng.choice(text.questions.of(heldout)), name, evaluation)
        return Exchange(said, text.noted), Exchange(asked, sentence)

    def personal(self, rng: random.Random, language: str, *, heldout: bool = False) -> tuple[Exchange, Exchange]:
        """Tell something about the user; the second exchange asks about it later in the conversation."""
        text = self.texts[language]
        about: Personal = rng.choice(text.personal)
        value = rng.choice(about.values)
        said = rng.choice(about.statements.of(heldout)).replace("{y}", value)
        asked = rng.choice(about.questions.of(heldout))
        return Exchange(said, text.noted), Exchange(asked, about.answer.replace("{y}", value))

    def _untold(self, rng: random.Random, language: str) -> Exchange:
        """Ask about the user, who has not told anything yet."""
        text = self.texts[language]
        return Exchange(rng.choice(rng.choice(text.personal).questions.trained), text.untold)

    def _told_and_asked(self, rng: random.Random, language: str) -> list[Exchange]:
        first, later = self.told(rng, language)
        return [first, *self._between(rng, language), later]

    def _personal_and_asked(self, rng: random.Random, language: str) -> list[Exchange]:
        first, later = self.personal(rng, language)
        return [first, *self._between(rng, language), later]

    def _between(self, rng: random.Random, language: str) -> list[Exchange]:
        fillers = (self.unknown, self.thing, self.arithmetic, self.talk, self.statement)
        between = [rng.choice(fillers)(rng, language) for _ in range(rng.choices((0, 1, 2), (40, 40, 20))[0])]
        if rng.random() < 0.3:  # a second fact, so that only the name shows which one is asked for
            between.insert(rng.randint(0, len(between)), self.told(rng, language)[0])
        return between

    @staticmethod
    def _combination(rng: random.Random, names: list[str], wordings: tuple[str, ...], heldout: bool, fresh: bool) -> tuple[str, str]:
        while True:
            name, wording = rng.choice(names), rng.choice(wordings)
            if heldout or reserved(name, wording) == fresh:
                return name, wording

    def _dress(self, rng: random.Random, text: Text, wording: str, name: str, plain: bool, place: str = "{x}") -> str:
        """Insert the name into the wording; in training, sometimes with quotes around the name, or sentences around the wording."""
        if plain:
            return wording.replace(place, name)
        shown = name
        if rng.random() < 0.08:
            shown = rng.choice(_QUOTES).format(name)
        elif text.language == "zh" and rng.random() < 0.12:
            shown = rng.choice((f" {name} ", f"{name} ", f" {name}"))
        prompt = self._noise(rng, wording, plain).replace(place, shown).strip()
        joint = "" if text.language == "zh" and rng.random() < 0.7 else " "
        if rng.random() < 0.13:
            prompt = rng.choice(text.before) + joint + prompt
        elif rng.random() < 0.08:
            prompt = rng.choice(text.statements.trained) + joint + prompt
        if rng.random() < 0.12 and prompt[-1] in _FINAL_MARKS:
            prompt += joint + rng.choice(text.after)
        return prompt

    @staticmethod
    def _noise(rng: random.Random, wording: str, plain: bool) -> str:
        """Sometimes type a wording carelessly: without its final mark, in lower case, with marks of the other width, or with a slip."""
        if plain:
            return wording
        kind = rng.random()
        if kind < 0.07:
            return wording.rstrip(_FINAL_MARKS)
        if kind < 0.12:
            return wording.lower()
        if kind < 0.16:
            return wording.translate(_NARROW if set(wording) & set(_WIDE_MARKS) else _WIDE)
        if kind < 0.19:
            cut = rng.randrange(len(wording))
            if not set(wording[max(cut - 2, 0) : cut + 3]) & set("{}"):
                return wording[:cut] + wording[cut + 1 :]
        return wording
