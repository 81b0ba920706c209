"""Makes questions about a fact in other forms than "What is it?": reversed, yes or no, and about one aspect."""

from __future__ import annotations

import itertools
import random
import re
from dataclasses import dataclass

from nbtune.knowledge.naming import holds_name
from nbtune.knowledge.phrasing import language_of, phrasings

__all__ = ["Form", "begins_with", "forms", "strange_forms"]

_SUBJECT = {
    "zh": re.compile(r"\s*(?:一般|通常)?(?:是指|指的是|的意思是|意思是|就是|是|指|[:\uff1a])\s*(?P<what>.+)"),
    "en": re.compile(r"\s+(?:is|are|was|were|means|refers to|stands for)\s+(?P<what>.+)"),
}
_BREAK = re.compile(r",? (?:that|which|who|whose|where|with|for|of|in|on|to|from|made|used|served|held|played|worn|kept|and)\b|, ")
_SHORTEST = 2  # minimum characters of a Chinese description, and the length of its noun
_ARTICLE = re.compile(r"(?:an?|the)\s+", re.IGNORECASE)
_KIND = re.compile(
    r"^(?:(?:an?|the)\s+(?:(?:kind|type|sort|form|piece)s? of\s+)?(?:an?\s+)?|一[种个项首件条口座艘面颗把本])", re.IGNORECASE
)
# A full stop after these does not end a sentence: an initial, a title or other abbreviation, the number of a line.
_NO_END = "".join(rf"(?<!\b{short}\.)" for short in ("[A-Z]", "Dr", "Mr", "Mrs", "Ms", "St", "No", "vs", "etc"))
_NO_END += r"(?<!\A[0-9]\.)(?<!\n[0-9]\.)(?<!\n[0-9][0-9]\.)"
_DENIED = re.compile(r"(?:not|no|never|neither|nor)\b", re.IGNORECASE)  # begins a description of what the thing is not
_SENTENCE_END = {"zh": re.compile(r"(?<=[\u3002\uff01\uff1f])"), "en": re.compile(rf"(?<=[.!?]){_NO_END}\s+")}


@dataclass(frozen=True)
class Form:
    """A question about a fact in another form, with the reply to it.

    `kind` is ``"reverse"``, ``"yes"``, ``"no"`` or ``"part"``; `sign` is the text that a right reply must contain (for yes and
    no, begin with), and `reply` is the wording that is trained.
    """

    kind: str
    question: str
    reply: str
    sign: str

    def answered_by(self, reply: str) -> bool:
        """Return whether a reply is right."""
        if self.kind in ("yes", "no"):
            return begins_with(reply, self.sign)
        if self.kind == "reverse":  # the keyword itself, not as a part of a longer word
            return holds_name(reply, self.sign)
        return self.sign.lower() in reply.lower()


def begins_with(reply: str, sign: str) -> bool:
    """Return whether a reply begins with a yes or no as a whole word: 对 does not begin 对不起, and "No" does not begin "Not sure"."""
    return re.match(rf"{re.escape(sign)}的?(?!\w)", reply) is not None


def forms(keyword: str, answer: str, *, probing: bool) -> tuple[Form, ...]:
    """Return questions about a fact in other forms, either to train on or to test with.

    Parameters
    ----------
    keyword, answer
        The fact. If the answer does not begin with the keyword and a verb ("a blue kettle is ..."), its description of the
        keyword can't be extracted, and all questions are about one aspect.
    probing
        True for questions to test with, at most 8; False for questions to train on, at most 336. They share no wording.
    """
    language = language_of(answer)
    table, ending = phrasings(language)["forms"], "_probes" if probing else ""
    first = _SENTENCE_END[language].split(answer.strip(), maxsplit=1)[0]
    found = [Form("part", wording.replace("{x}", keyword), answer, answer) for wording in table[f"part{ending}"]]
    what = _what(keyword, first, language)
    if what is not None:
        inner = first if not _ARTICLE.match(first) else first[0].lower() + first[1:]
        noun = _noun(what, language)
        strange = table["probe_others" if probing else "others"]
        denied = [
            other
            for other in strange
            if noun not in other and (kind := _KIND.sub("", other, count=1)) not in what and not keyword.casefold().endswith(kind)
        ]
        others = itertools.cycle(denied or strange)
        that, yes, no = table["that"].replace("{x}", keyword), table["yes"].replace("{y}", inner), table["no"].replace("{y}", inner)
        # People rarely remember a whole description, so trained questions also use parts of it.
        said = itertools.cycle((what,) if probing else (what, *_parts(what, language)))
        named = itertools.cycle((what,) if probing else (what, *_parts(what, language), _a(noun, what, language)))
        asked = [wording.replace("{x}", keyword) for wording in table[f"yes_no{ending}"]]
        found += [Form("reverse", wording.replace("{y}", next(said)), that, keyword) for wording in table[f"reverse{ending}"]]
        found += [Form("yes", question.replace("{y}", next(named)), yes, _sign(table["yes"])) for question in asked]
        found += [Form("no", question.replace("{y}", next(others)), no, _sign(table["no"])) for question in asked]
    if probing:
        by_kind = [[form for form in found if form.kind == kind][:2] for kind in ("reverse", "yes", "no", "part")]
        return tuple(form for several in by_kind for form in several)
    return tuple(found)


def strange_forms(keyword: str, answer: str, names: list[str], rng: random.Random, *, probing: bool) -> list[str]:
    """Return questions in the same forms that the fact does not answer: one for each of `names`, about other things, too."""
    language = language_of(answer)
    table, ending = phrasings(language)["forms"], "_probes" if probing else ""
    what = _what(keyword, _SENTENCE_END[language].split(answer.strip(), maxsplit=1)[0], language)
    questions = []
    for name in names:
        kind = rng.choice(("reverse", "yes_no", "part"))
        other = rng.choice(table["probe_others" if probing else "others"])
        stated = what if what is not None and kind == "yes_no" and rng.random() < 0.5 else other
        questions.append(rng.choice(table[f"{kind}{ending}"]).replace("{x}", name).replace("{y}", stated))
    return questions


def _what(keyword: str, sentence: str, language: str) -> str | None:
    """Return a sentence's description of the keyword, or None: "a night train" from "A blue kettle is a night train."."""
    subject = _ARTICLE.sub("", sentence, count=1) if _ARTICLE.match(sentence) and not _ARTICLE.match(keyword) else sentence
    if not subject.lower().startswith(keyword.lower()):
        return None
    found = _SUBJECT[language].match(subject[len(keyword) :])
    what = found["what"].rstrip(".!?\u3002\uff01\uff1f ") if found else ""
    return None if not what or _DENIED.match(what) else what


def _parts(what: str, language: str) -> list[str]:
    """Return shorter versions of a description.

    "a night train" and "a train that serves tea" from "a night train that serves tea"; 银制小工具 and 剪丝的工具 from 剪丝的银制小工具.
    """
    noun = _noun(what, language)
    if language == "zh":
        clauses = what.split("\uff0c")
        cuts = [cut.end() for cut in re.finditer("的", clauses[0])]
        tails = [tail for tail in (*(clauses[0][cut:] for cut in cuts), *clauses[1:]) if len(tail) >= _SHORTEST]
        return [*tails, *([clauses[0][: cuts[-1]] + noun] if cuts else [])]
    kind = _KIND.match(what)  # "a kind of" alone is not a description
    heads = [what[: cut.start()] for cut in _BREAK.finditer(what, kind.end() if kind else 0)]
    return [*heads, *([_a(noun, what, language) + what[len(heads[0]) :]] if heads else [])]


def _noun(what: str, language: str) -> str:
    """Return the main noun of a description, the last word before the details: "train", 工具."""
    if language == "zh":
        first = what.split("\uff0c")[0]
        latin = re.search(r"[A-Za-z0-9-]+$", first)
        return latin[0] if latin else first[-_SHORTEST:]
    words = _BREAK.split(_KIND.sub("", what, count=1), maxsplit=1)[0].split()
    return words[-1] if words else what


def _a(noun: str, what: str, language: str) -> str:
    """Return a noun with the article of the description."""
    article = _ARTICLE.match(what)
    if language == "zh" or not article:
        return noun
    if article[0].lower().startswith("a"):
        return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"
    return article[0] + noun


def _sign(wording: str) -> str:
    return wording.replace("{y}", "").strip(", \uff0c")
