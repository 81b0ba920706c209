"""Asks a sample of the examples, and unrelated questions, before and after a fit, and scores the replies."""

from __future__ import annotations

import random
from collections.abc import Sequence

from nbtune.chat_template import reply_ids
from nbtune.data.formats import Conversation
from nbtune.knowledge.asking import answer, reply_limit
from nbtune.knowledge.observer import Observer
from nbtune.knowledge.phrasing import language_of, phrasings
from nbtune.knowledge.scoring import Asked, Report, same
from nbtune.model.adapters import AdapterHost
from nbtune.model.generation import prompt_length
from nbtune.model.loading import LoadedModel
from nbtune.model.sampling import Sampling

__all__ = ["SpotChecks", "main_language"]

_PER_KIND = 24  # maximum number of trained and of held-out examples to ask
_LANGUAGE_FROM = 100  # number of examples from which the main language is determined
_LONGEST_LIMIT = 256  # maximum tokens of a reply


class SpotChecks:
    """A sample of trained and held-out conversations, and unrelated questions.

    Parameters
    ----------
    trained, held
        The conversations to draw from.
    loaded
        The model.
    room
        Maximum tokens of a question and its reply, the same before and after the fit.
    seed
        Seed of the draw.
    """

    def __init__(self, trained: Sequence[Conversation], held: Sequence[Conversation], loaded: LoadedModel, room: int, seed: int) -> None:
        rng = random.Random(seed)
        drawn = {kind: rng.sample(list(found), min(_PER_KIND, len(found))) for kind, found in (("trained", trained), ("held-out", held))}
        others = phrasings(main_language(trained))["probe_unrelated"]
        drawn["unrelated"] = [[{"role": "user", "content": question}] for question in others]
        self._loaded, self._room = loaded, room
        # The chats to ask, and in `_wanted` the replies; None for an unrelated question, whose reply must stay.
        self._asked = [(kind, chat if kind == "unrelated" else chat[:-1]) for kind, chats in drawn.items() for chat in chats]
        examples = [chat for kind in ("trained", "held-out") for chat in drawn[kind]]
        said = [reply_ids(loaded.tokenizer, chat[:-1], chat[-1]["content"])[1] for chat in examples]
        self._limit = min(_LONGEST_LIMIT, reply_limit(max(map(len, said))))
        # Only the beginning of a long reply is compared, as many tokens as are generated.
        self._wanted: list[str | None] = [
            loaded.tokenizer.decode(tokens[: self._limit]) if len(tokens) > self._limit else chat[-1]["content"]
            for chat, tokens in zip(examples, said, strict=True)
        ]
        self._wanted += [None] * len(drawn["unrelated"])

    def ask(self, host: AdapterHost, stage: str, observer: Observer) -> list[str]:
        """Return the host's greedy replies; the reply is empty for a chat that leaves no room for one."""
        observer.stage(stage, len(self._asked))
        fitting = [place for place, (_, chat) in enumerate(self._asked) if prompt_length(self._loaded.tokenizer, chat) < self._room]
        replies = [""] * len(self._asked)
        chats = [self._asked[place][1] for place in fitting]
        generated = answer(host, self._loaded, chats, Sampling(max_new_tokens=self._limit), observer)
        for place, reply in zip(fitting, generated, strict=True):
            replies[place] = reply
        return replies

    def trained_questions(self) -> tuple[str, ...]:
        """Return the last user message of each sampled trained conversation, if it leaves room for a reply."""
        tokenizer, asked = self._loaded.tokenizer, [chat[-1] for kind, chat in self._asked if kind == "trained"]
        return tuple(message["content"] for message in asked if prompt_length(tokenizer, [message]) < self._room)

    def report(self, before: Sequence[str], after: Sequence[str]) -> Report:
        """Return the report; an example is right if up to 256 tokens of its reply match, an unrelated question if its reply stayed."""
        asked = [
            Asked(kind, chat[-1]["content"], old, new, same(new, old if wanted is None else wanted))
            for (kind, chat), wanted, old, new in zip(self._asked, self._wanted, before, after, strict=True)
        ]
        return Report(tuple(asked), float("nan"))


def main_language(conversations: Sequence[Conversation]) -> str:
    """Return the language of most replies among the first 100 conversations, ``"zh"`` or ``"en"``."""
    replies = [chat[-1]["content"] for chat in conversations[:_LANGUAGE_FROM]]
    chinese = sum(language_of(reply) == "zh" for reply in replies)
    return "zh" if 2 * chinese > len(replies) else "en"
