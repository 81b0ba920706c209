"""Asks the model questions; greedy replies that a forward pass can confirm are not generated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from nbtune.data.encoding import Batch, Encoded, collate, encode, on_device
from nbtune.errors import NbtuneError
from nbtune.knowledge.observer import Observer
from nbtune.model.adapters import AdapterHost
from nbtune.model.generation import Chat, generate_batch, user_words
from nbtune.model.loading import LoadedModel
from nbtune.model.sampling import Sampling

__all__ = ["answer", "ask", "examples_reproduced", "parts", "reply_limit", "rows_right", "said"]

_SHORTEST_LIMIT = 64
_ROWS = 64
_LOGITS = 2**25  # maximum logits in one forward pass: 128 MB in single precision


def ask(
    host: AdapterHost,
    loaded: LoadedModel,
    prompts: Sequence[str],
    *,
    expected: Sequence[str] | None = None,
    answers: Sequence[str] = (),
    limit: int | None = None,
    observer: Observer | None = None,
    recall: bool = False,
) -> list[str]:
    """Ask each question on its own and return the greedy replies.

    An expected reply is checked in one forward pass: if each of its tokens, end of turn included, is the likeliest one
    after the tokens before it, greedy generation would produce exactly this reply (speculative decoding, Leviathan
    et al. 2023, with the expected reply as the draft). All other replies are generated.

    Parameters
    ----------
    host, loaded
        The model.
    prompts
        Questions.
    expected
        The reply to check for each question; empty where none is expected. Default: none.
    answers
        Replies are cut well after the length of the longest of these, so that talkative models take no more time. Default: none.
    limit
        Length limit of a reply in tokens. Default: derived from `answers`, see `reply_limit`.
    observer
        Notified of each reply.
    recall
        Reuse earlier replies of the base where the base answers. A proof that the base still gives them asks again.
    """
    expected = [""] * len(prompts) if expected is None else expected
    replies = list(expected)
    limit = limit or reply_limit(max((len(loaded.tokenizer(answer)["input_ids"]) for answer in answers), default=0))
    for side, places in host.group_by_side(prompts).items():
        with host.answering(side):
            kept = loaded.replies if recall and (side is None or host.bypassed) else {}
            for place in places:
                replies[place] = kept.get((prompts[place], limit), replies[place])
            asked = [place for place in places if (prompts[place], limit) not in kept]
            _count(observer, len(places) - len(asked))
            right = said(host, loaded, [prompts[place] for place in asked], [expected[place] for place in asked])
            _count(observer, sum(right))
            open_ = [place for place, is_right in zip(asked, right, strict=True) if not is_right]
            chats = [[{"role": "user", "content": prompts[place]}] for place in open_]
            for place, reply in zip(open_, _generated(host, loaded, chats, Sampling(max_new_tokens=limit), observer), strict=True):
                replies[place] = reply
            kept.update({(prompts[place], limit): replies[place] for place in asked})
    return replies


def answer(
    host: AdapterHost, loaded: LoadedModel, chats: Sequence[Chat], sampling: Sampling, observer: Observer | None = None
) -> list[str]:
    """Generate the replies to whole chats, each with the adapter that the gate finds for it, or else with the base.

    Parameters
    ----------
    host, loaded
        The model.
    chats
        Messages, the last one the user's.
    sampling
        How tokens are chosen.
    observer
        Notified of each reply.

    Raises
    ------
    NbtuneError
        When a chat does not fit into the context.
    """
    replies = [""] * len(chats)
    for side, places in host.group_by_side([user_words(chat) for chat in chats]).items():
        with host.answering(side):
            generated = _generated(host, loaded, [chats[place] for place in places], sampling, observer)
        for place, reply in zip(places, generated, strict=True):
            replies[place] = reply
    return replies


def _generated(host: AdapterHost, loaded: LoadedModel, chats: Sequence[Chat], sampling: Sampling, observer: Observer | None) -> list[str]:
    """Reply to chats with the adapter, or the base, that is active now."""
    return generate_batch(
        host.net, loaded.tokenizer, chats, context=loaded.context, sampling=sampling, on_batch=lambda done: _count(observer, done)
    )


def said(host: AdapterHost, loaded: LoadedModel, prompts: Sequence[str], replies: Sequence[str]) -> list[bool]:
    """Return for each question whether greedy generation would give exactly this reply, checked without generating.

    An empty reply, or one too long for the context, counts as not said.
    """
    right = [False] * len(prompts)
    rows: dict[int, Encoded] = {}
    for i, (prompt, reply) in enumerate(zip(prompts, replies, strict=True)):
        try:
            if reply:
                rows[i] = encode(loaded.tokenizer, prompt, reply, context=loaded.context)
        except NbtuneError:  # too long for the context
            continue
    for i, is_right in zip(rows, examples_reproduced(host.net, list(rows.values()), loaded), strict=True):
        right[i] = is_right
    return right


def examples_reproduced(net: Any, examples: Sequence[Encoded], loaded: LoadedModel, *, margin: float = 0.0) -> list[bool]:
    """Return for each encoded example whether greedy generation would give exactly its reply, checked by forward passes.

    Parameters
    ----------
    net
        The model, or only its last layer if the examples hold the input of that layer.
    examples
        Questions with replies.
    loaded
        The model whose tokenizer encoded the examples.
    margin
        How far the logit of each token must exceed the next likeliest one, relative to its own size. Default: 0, any
        lead is enough.
    """
    from nbtune.training.step_runner import trained_logits

    right = [False] * len(examples)
    for places in parts(examples, len(loaded.tokenizer)):
        batch = on_device(collate([examples[place] for place in places], loaded.tokenizer.pad_token_id), loaded.model.device)
        with torch.inference_mode():
            found = rows_right(trained_logits(net, batch), batch, margin)
        for place, is_right in zip(places, found, strict=True):
            right[place] = is_right
    return right


def rows_right(logits: torch.Tensor, batch: Batch, margin: float = 0.0) -> list[bool]:
    """Return for each row of a batch whether every trained token is the likeliest one, by a margin; see `examples_reproduced`."""
    hits = logits.argmax(-1) == batch["target_tokens"][:, 0]
    if margin:
        first, second = logits.topk(2).values.unbind(-1)
        hits &= first - second > margin * first.abs()
    # Stacked, so that the device is synchronized only once.
    right: list[bool] = torch.stack([hit.all() for hit in torch.split(hits, batch["lengths"])]).tolist()
    return right


def parts(examples: Sequence[Encoded], vocabulary: int) -> Iterator[list[int]]:
    """Yield the indices of examples in groups of similar length, each small enough for memory."""
    part: list[int] = []
    widest = 0
    for place in sorted(range(len(examples)), key=lambda place: (examples[place].trained, len(examples[place].input_ids))):
        widest = max(widest, examples[place].trained)
        if part and (len(part) == _ROWS or (len(part) + 1) * widest * vocabulary > _LOGITS):
            yield part
            part, widest = [], examples[place].trained
        part.append(place)
    if part:
        yield part


def _count(observer: Observer | None, replies: int) -> None:
    for _ in range(replies):
        if observer:
            observer.advance()


def reply_limit(longest: int) -> int:
    """Return the length limit of a reply in tokens: 1.5 times the longest expected reply, at least 64."""
    return max(_SHORTEST_LIMIT, longest + longest // 2)
