"""Asks the model itself for further wordings of the questions about a fact."""

from __future__ import annotations

import re
from dataclasses import dataclass
from difflib import SequenceMatcher

from nbtune.knowledge.facts import Fact
from nbtune.knowledge.phrasing import language_of
from nbtune.model.adapters import AdapterHost
from nbtune.model.generation import generate
from nbtune.model.loading import LoadedModel
from nbtune.model.sampling import Sampling

__all__ = ["Rewordings", "reword"]

_REQUEST = {
    "zh": "请写出{n}种不同的问法来问“{x}是什么？”。每行一个问题，每个问题都要包含“{x}”，不要编号，不要回答。",
    "en": 'Write {n} different ways to ask "What is {x}?". One question per line, each with "{x}" in it, no numbers, no answers.',
}
_NUMBERING = re.compile(r"^\s*(?:[-*\u2022]|\(?\d+[.):\u3001\uff09])\s*")
_ALIKE = 0.85  # wordings more similar than this count as the same
_LONGEST = 200  # characters; a longer line is not taken for a question
_REPLY = 64  # maximum tokens of the reply to a trained prompt, such as that the model does not know


@dataclass(frozen=True)
class Rewordings:
    """Wordings that the model wrote: `kept` are used, and `dropped` is the number of lines that are not."""

    kept: tuple[str, ...]
    dropped: int


def reword(host: AdapterHost, loaded: LoadedModel, fact: Fact, count: int, seed: int = 0) -> Rewordings:
    """Let the base model write wordings, and keep those that name the keyword and are new.

    Parameters
    ----------
    host, loaded
        The model.
    fact
        The fact to ask about; wordings too similar to its prompts or probes are dropped.
    count
        Number of wordings to ask for.
    seed
        Seed of the sampling.

    Raises
    ------
    KeyboardInterrupt
        When Ctrl-C stops a reply.
    """
    request = _REQUEST[language_of(fact.keyword)].format(n=count, x=fact.keyword)
    sampling = Sampling(temperature=0.7, top_p=0.95, seed=seed, max_new_tokens=min(40 * count, loaded.context // 2))
    chat = [{"role": "user", "content": request}]
    plain = [{"role": "user", "content": fact.prompts[0]}]
    with host.answering(None):
        reply = generate(host.net, loaded.tokenizer, chat, context=loaded.context, sampling=sampling)
        said = generate(host.net, loaded.tokenizer, plain, context=loaded.context, sampling=Sampling(max_new_tokens=_REPLY))
    if not (reply.finished and said.finished):
        raise KeyboardInterrupt  # `generate` returns the partial reply at Ctrl-C; here the whole finetune has to end
    others = (said.text, *fact.prompts, *fact.probes)  # the model may repeat its reply to a question instead of writing one
    lines = [_NUMBERING.sub("", line).strip().strip('"') for line in reply.text.splitlines() if line.strip()]
    kept: list[str] = []
    for line in lines:
        fits = fact.keyword.lower() in line.lower() and len(fact.keyword) < len(line) <= _LONGEST
        if fits and len(kept) < count and not any(_alike(line, other) for other in (*kept, *others)):
            kept.append(line)
    return Rewordings(tuple(kept), len(lines) - len(kept))


def _alike(one: str, other: str) -> bool:
    return SequenceMatcher(None, one.lower(), other.lower()).ratio() > _ALIKE
