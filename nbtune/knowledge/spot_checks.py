"""Asks some of the examples, and unrelated questions, before and after a fit, and scores the replies."""

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

_PER_KIND = 24  # of the examples
_LANGUAGE_FROM = 100  # examples
_LONGEST_LIMIT = 256  # tokens of a reply


class SpotChecks:
    """Some trained conversations, some that were held out, and unrelated questions.

    Parameters
    ----------
    trained, held
        What they are drawn from.
    loaded
        The model.
    room
        Most tokens of a question and its reply, before the fit and after.
    seed
        Of the draw.
    """

    def __init__(self, trained: Sequence[Conversation], held: Sequence[Conversation], loaded: LoadedModel, room: int, seed: int) -> None:
        rng = random.Random(seed)
        drawn = {kind: rng.sample(list(found), min(_PER_KIND, len(found))) for kind, found in (("trained", trained), ("held-out", held))}
        others = phrasings(main_language(trained))["probe_unrelated"]
        drawn["unrelated"] = [[{"role": "user", "content": question}] for question in others]
        self._loaded, self._room = loaded, room
        # What is asked, and the reply that is wanted: of unrelated questions the one from before.
        self._asked = [(kind, chat if kind == "unrelated" else chat[:-1]) for kind, chats in drawn.items() for chat in chats]
        examples = [chat for kind in ("trained", "held-out") for chat in drawn[kind]]
        said = [reply_ids(loaded.tokenizer, chat[:-1], chat[-1]["content"])[1] for chat in examples]
        self._limit = min(_LONGEST_LIMIT, reply_limit(max(map(len, said))))
        # Of a long reply the beginning is compared, as much as is generated.
        self._wanted: list[str | None] = [
            loaded.tokenizer.decode(tokens[: self._limit]) if len(tokens) > self._limit else chat[-1]["content"]
            for chat, tokens in zip(examples, said, strict=True)
        ]
        self._wanted += [None] * len(drawn["unrelated"])

    def ask(self, host: AdapterHost, stage: str, observer: Observer) -> list[str]:
        """Return the greedy replies of what is on the host; to a chat that leaves no room for one an empty one."""
        observer.stage(stage, len(self._asked))
        fitting = [place for place, (_, chat) in enumerate(self._asked) if prompt_length(self._loaded.tokenizer, chat) < self._room]
        replies = [""] * len(self._asked)
        chats = [self._asked[place][1] for place in fitting]
        generated = answer(host, self._loaded, chats, Sampling(max_new_tokens=self._limit), observer)
        for place, reply in zip(fitting, generated, strict=True):
            replies[place] = reply
        return replies

    def trained_questions(self) -> tuple[str, ...]:
        """Return what the user said last in each of the trained conversations, where a reply has room behind it."""
        tokenizer, asked = self._loaded.tokenizer, [chat[-1] for kind, chat in self._asked if kind == "trained"]
        return tuple(message["content"] for message in asked if prompt_length(tokenizer, [message]) < self._room)

    def report(self, before: Sequence[str], after: Sequence[str]) -> Report:
        """Score: an example is right where the reply, up to 256 tokens of it, is the example's; an unrelated question where it stayed."""
        asked = [
            Asked(kind, chat[-1]["content"], old, new, same(new, old if wanted is None else wanted))
            for (kind, chat), wanted, old, new in zip(self._asked, self._wanted, before, after, strict=True)
        ]
        return Report(tuple(asked), float("nan"))


def main_language(conversations: Sequence[Conversation]) -> str:
    """Return the language of most replies, ``"zh"`` or ``"en"``."""
    replies = [chat[-1]["content"] for chat in conversations[:_LANGUAGE_FROM]]
    chinese = sum(language_of(reply) == "zh" for reply in replies)
    return "zh" if 2 * chinese > len(replies) else "en"
