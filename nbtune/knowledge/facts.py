"""Defines a fact, with the prompts it is trained on and the probes it is tested on."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from nbtune.checks import check_text
from nbtune.errors import NbtuneError
from nbtune.folding import keyword_key, visible, wording_key
from nbtune.knowledge.phrasing import language_of, phrase, subject

__all__ = ["FAILED", "VERIFIED", "Fact"]

VERIFIED, FAILED = "verified", "failed"
_LONGEST_KEYWORD = 200  # characters; a keyword is a name, not a text


@dataclass(frozen=True)
class Fact:
    """A keyword and the answer to questions about it.

    Parameters
    ----------
    keyword
        The subject, as it appears in a question.
    answer
        What the model should say.
    own_prompts, own_probes
        The user's own questions to train on and to test with; ``{x}`` stands for the keyword. Default: none.
    extended
        Whether the built-in phrasings are used in addition to the user's own. Default: False.
    taught
        Time of the proof, in UTC, ISO 8601; empty until then.
    standing
        ``"verified"`` or ``"failed"``; empty until the proof.
    scores
        Shares of right replies about this fact, between 0 and 1: ``reliability``, ``generalization`` and ``portability``; NaN for a
        kind of question that was not asked. None until the proof.
    """

    keyword: str
    answer: str
    own_prompts: tuple[str, ...] = ()
    own_probes: tuple[str, ...] = ()
    extended: bool = False
    taught: str = ""
    standing: str = ""
    scores: dict[str, float] | None = field(default=None, hash=False)

    @classmethod
    def new(
        cls, keyword: str, answer: str, prompts: Sequence[str] | None = None, probes: Sequence[str] | None = None, *, extend: bool = False
    ) -> Fact:
        """Make a fact from what a user gives, checked and stripped of surrounding white space.

        Parameters
        ----------
        keyword, answer
            The subject, and what the model should say about it.
        prompts, probes
            Questions to train on and to test with instead of the built-in phrasings; ``{x}`` stands for the keyword.
        extend
            Use the built-in phrasings in addition to these.

        Raises
        ------
        NbtuneError
            When a text is empty or not a text, the keyword is too long for a name, or a probe is also a trained prompt.
        """
        check_text("The keyword", keyword)
        check_text(f"The answer for {keyword!r}", answer)
        keyword, answer = visible(keyword).strip(), answer.strip()
        if not keyword:
            raise NbtuneError("The keyword is empty: name the thing the fact is about.")
        if not answer:
            raise NbtuneError(f"The answer for {keyword!r} is empty: write what the model should say.")
        if "\n" in keyword or "\r" in keyword:
            raise NbtuneError("The keyword has several lines: give a short name, and put the text in the answer.")
        if any(unicodedata.category(character) == "Cc" for character in keyword):
            raise NbtuneError(f"The keyword {keyword!r} contains a control character: retype it.")
        if len(keyword) > _LONGEST_KEYWORD:
            raise NbtuneError(f"The keyword is a text of {len(keyword)} characters: give a short name, and put the text in the answer.")
        fact = cls(keyword, answer, _texts(prompts, "--prompts"), _texts(probes, "--probes"), extend)
        trained = {wording_key(prompt) for prompt in fact.prompts}
        mixed = next((probe for probe in fact._filled(fact.own_probes) if wording_key(probe) in trained), None)
        if mixed is not None:
            raise NbtuneError(f"The probe {mixed!r} is also trained: a probe tests wordings that were never trained.")
        return fact

    @property
    def language(self) -> str:
        """Language of the answer, ``"zh"`` or ``"en"``; most built-in questions are in this language."""
        return language_of(self.answer)

    @property
    def prompts(self) -> tuple[str, ...]:
        """Questions that the fact is trained on."""
        built_in = () if self.own_prompts and not self.extended else phrase(self.keyword, self.language)[0]
        kept_apart = {wording_key(probe) for probe in self._filled(self.own_probes)} if built_in else set()
        return tuple(dict.fromkeys((*self._filled(self.own_prompts), *(p for p in built_in if wording_key(p) not in kept_apart))))

    @property
    def probes(self) -> tuple[str, ...]:
        """Questions that the fact is tested on; they are never trained."""
        own = self._filled(self.own_probes)
        built_in = () if own and not self.extended else phrase(self.keyword, self.language)[1]
        trained = {wording_key(prompt) for prompt in self._filled(self.own_prompts)}
        return tuple(dict.fromkeys((*own, *(p for p in built_in if wording_key(p) not in trained))))

    def asked_by(self, question: str) -> bool:
        """Return whether a question is a prompt or probe, or asks for the keyword in a built-in wording, ignoring punctuation and case."""
        if wording_key(question) in {wording_key(own) for own in (*self.prompts, *self.probes)}:
            return True
        return keyword_key(self.keyword) in {keyword_key(question), keyword_key(subject(question))}

    def is_tested_by(self, question: str) -> bool:
        """Return whether a question is one of the probes, ignoring punctuation, spaces and case."""
        return wording_key(question) in {wording_key(probe) for probe in self.probes}

    def with_proof(self, standing: str, scores: dict[str, float]) -> Fact:
        """Return the fact with the standing and scores of its proof, dated now."""
        return replace(self, taught=datetime.now(UTC).isoformat(timespec="seconds"), standing=standing, scores=scores)

    def with_prompts(self, wordings: Sequence[str]) -> Fact:
        """Return the fact with these questions to train on in addition to its present ones."""
        if not wordings:
            return self
        return replace(self, own_prompts=(*self.own_prompts, *wordings), extended=self.extended or not self.own_prompts)

    def to_row(self) -> dict[str, Any]:
        """Return the user's input (keyword, answer, own prompts and probes) as a row, as facts are read from a file."""
        own: dict[str, Any] = {"prompts": list(self.own_prompts), "probes": list(self.own_probes), "extend": self.extended}
        return {"keyword": self.keyword, "answer": self.answer, **{key: value for key, value in own.items() if value}}

    def to_json(self) -> dict[str, Any]:
        """Return all fields as plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Fact:
        """Make a fact from what `to_json` returned."""
        return cls(**{**data, "own_prompts": tuple(data["own_prompts"]), "own_probes": tuple(data["own_probes"])})

    def _filled(self, wordings: Sequence[str]) -> tuple[str, ...]:
        return tuple(wording.replace("{x}", self.keyword) for wording in wordings)


def _texts(wordings: Sequence[str] | None, option: str) -> tuple[str, ...]:
    """Return stripped wordings without repetitions, or refuse a value that is not a list of texts."""
    if wordings is None:
        return ()
    given = [] if isinstance(wordings, (str, Mapping)) or not isinstance(wordings, Iterable) else list(wordings)
    if not given or not all(isinstance(wording, str) and wording.strip() for wording in given):
        raise NbtuneError(f"{option}: expected a list of texts such as ['What is {{x}}?', 'Tell me about {{x}}.'].")
    return tuple(dict.fromkeys(wording.strip() for wording in given))
