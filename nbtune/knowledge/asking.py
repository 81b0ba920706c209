"""Puts questions to the model and returns its greedy replies, without generating what it can be shown to say."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from nbtune.data.encoding import Encoded, collate, encode
from nbtune.errors import NbtuneError
from nbtune.knowledge.observer import Observer
from nbtune.model.adapters import AdapterHost
from nbtune.model.generation import Sampling, generate_batch
from nbtune.model.loading import LoadedModel

__all__ = ["ask", "said"]

_SHORTEST_LIMIT = 64
_ROWS = 64
_LOGITS = 2**25  # most logits of one forward pass: 128 MB in single precision


def ask(
    host: AdapterHost,
    loaded: LoadedModel,
    prompts: Sequence[str],
    *,
    expected: Sequence[str],
    answers: Sequence[str],
    observer: Observer | None = None,
) -> list[str]:
    """Put each question by itself and return the greedy replies.

    What the model is expected to say is read in one forward pass: where every token of it is the likeliest one
    after those before it, the end of turn included, greedy generation says exactly that (it is speculative
    decoding, Leviathan et al. 2023, with the expected reply as the draft). All others are generated.

    Parameters
    ----------
    host, loaded
        The model.
    prompts
        Questions.
    expected
        For each what may be said; empty where nothing is expected.
    answers
        A reply is cut well behind the longest of these, so that a talkative model costs no more than it can prove.
    observer
        Told of each reply.
    """
    replies = list(expected)
    for adapted, places in host.sides(prompts).items():
        with host.answering(adapted):
            right = said(host, loaded, [prompts[place] for place in places], [expected[place] for place in places])
            _count(observer, sum(right))
            open_ = [place for place, is_right in zip(places, right, strict=True) if not is_right]
            generated = generate_batch(
                host.net,
                loaded.tokenizer,
                [[{"role": "user", "content": prompts[place]}] for place in open_],
                context=loaded.context,
                sampling=Sampling(max_new_tokens=_reply_limit(loaded, answers)),
                on_batch=lambda done: _count(observer, done),
            )
            for place, reply in zip(open_, generated, strict=True):
                replies[place] = reply
    return replies


def said(host: AdapterHost, loaded: LoadedModel, prompts: Sequence[str], replies: Sequence[str]) -> list[bool]:
    """Tell for each question whether greedy generation gives exactly this reply, by one forward pass.

    An empty reply, and one too long for the context, counts as not said.
    """
    from nbtune.training.step_runner import trained_logits

    right = [False] * len(prompts)
    rows: list[tuple[int, Encoded]] = []
    for i, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        try:
            if reply:
                rows.append((i, encode(loaded.tokenizer, prompt, reply, context=loaded.context)))
        except NbtuneError:  # does not fit into the context
            continue
    for part in _parts(rows, len(loaded.tokenizer)):
        encoded = [row for _, row in part]
        batch = {key: value.to(host.net.device) for key, value in collate(encoded, loaded.tokenizer.pad_token_id).items()}
        with torch.inference_mode():
            hits = trained_logits(host.net, batch).argmax(-1) == batch["target_tokens"][:, 0]
        for (i, _), hit in zip(part, torch.split(hits.cpu(), [row.trained for row in encoded]), strict=True):
            right[i] = bool(hit.all())
    return right


def _parts(rows: list[tuple[int, Encoded]], vocabulary: int) -> Iterator[list[tuple[int, Encoded]]]:
    """Cut rows, those of like length together, into parts that memory holds."""
    part: list[tuple[int, Encoded]] = []
    for row in sorted(rows, key=lambda row: len(row[1].input_ids)):
        widest = max([row[1].trained, *(other.trained for _, other in part)])
        if part and (len(part) == _ROWS or (len(part) + 1) * widest * vocabulary > _LOGITS):
            yield part
            part = []
        part.append(row)
    if part:
        yield part


def _count(observer: Observer | None, replies: int) -> None:
    for _ in range(replies):
        if observer:
            observer.advance()


def _reply_limit(loaded: LoadedModel, answers: Sequence[str]) -> int:
    """Return how many tokens a reply may take: half as many again as the longest answer, at least 64."""
    longest = max((len(loaded.tokenizer(answer)["input_ids"]) for answer in answers), default=0)
    return max(_SHORTEST_LIMIT, longest + longest // 2)
