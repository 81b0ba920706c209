"""Turns chats into replies: greedy or sampled, streamed one by one or in batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase, TextStreamer

from nbtune.chat_template import apply_chat_template, chat_ids
from nbtune.errors import NbtuneError
from nbtune.model.arguments import has_encoder, prepares_inputs
from nbtune.model.drafting import read_draft
from nbtune.model.prefixed import virtual_tokens
from nbtune.model.prompt_cache import PromptCache
from nbtune.model.sampling import DEFAULT_NEW_TOKENS, Sampling, before_stop, seeded

__all__ = ["Chat", "Reply", "generate", "generate_batch", "prompt_length", "user_words"]

Chat = list[dict[str, str]]
_BATCH, _TOKENS = 48, 2**14  # most chats together, and most tokens of them, replies included


@dataclass(frozen=True)
class Reply:
    """What the model said.

    Parameters
    ----------
    text
        The reply.
    finished
        False when Ctrl-C cut it short.
    tokens
        Tokens generated.
    prompt_tokens, prompt_tokens_read
        Tokens of the prompt, and how many of them were read for this reply; the others were known from the turn before.
    first_token_seconds, seconds
        Seconds to the first token, and to the last.
    cut
        Why it is incomplete: ``"limit"`` when it reached `max_new_tokens`, ``"context"`` when the context was full; else empty.
    """

    text: str
    finished: bool
    tokens: int
    prompt_tokens: int
    prompt_tokens_read: int
    first_token_seconds: float
    seconds: float
    cut: str = ""

    def stats(self) -> str:
        """Return its speed in one line."""
        rate = f"{(self.tokens - 1) / (self.seconds - self.first_token_seconds):.0f} tokens/s · " if self.tokens > 1 else ""
        read = f"read {self.prompt_tokens_read} of {self.prompt_tokens}"
        return f"first token {self.first_token_seconds * 1000:.0f} ms · {rate}{self.tokens} tokens · {read}"


class _Stream(TextStreamer):
    """Hands on decoded text as it grows, up to a text that ends it, and keeps all of it for an interrupted reply."""

    token_cache: list[int]

    def __init__(self, tokenizer: PreTrainedTokenizerBase, on_text: Callable[[str], None] | None, stop: Sequence[str] = ()) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.text, self._on_text = "", on_text
        self._stop, self._generated = stop, ""
        self._began = time.perf_counter()
        self.times: list[float] = []  # seconds from the beginning to each token

    def put(self, value: Any) -> None:
        """Take the prompt, then each token; transformers' hook."""
        if self.next_tokens_are_prompt:
            super().put(value)
            return
        self.times.append(time.perf_counter() - self._began)
        super().put(value)
        if not self.token_cache:  # a line ended: some tokenizers drop a space where a text begins, so the next line does not begin one
            self.token_cache = value.flatten().tolist()[-1:]
            self.print_len = len(self.tokenizer.decode(self.token_cache, **self.decode_kwargs))

    @property
    def stopped(self) -> bool:
        """Whether one of the texts that end it came."""
        return before_stop(self._generated, self._stop) != self._generated

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Take a piece of text that will not change any more; transformers' hook."""
        self._generated += text
        shown = before_stop(self._generated, self._stop)
        if shown == self._generated and not stream_end:  # its end may be the beginning of a text that ends it
            shown = shown[: max(0, len(shown) - max(map(len, self._stop), default=1) + 1)]
        piece = shown[len(self.text) :]
        self.text += piece
        if piece and self._on_text:
            self._on_text(piece)


def user_words(chat: Chat) -> str:
    """Return what decides which adapter answers: all that the user said, so that a question about "it" stays with its fact."""
    return "\n".join(message["content"] for message in chat if message["role"] == "user")


def prompt_length(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> int:
    """Return how many tokens a chat takes, the opening of the reply included."""
    return len(chat_ids(tokenizer, chat))


def _room(context: int, length: int) -> int:
    if length >= context:
        raise NbtuneError(f"The prompt takes {length} tokens and the model reads at most {context}: shorten it, or start anew with --new.")
    return context - length


def _batches(order: list[int], lengths: list[int], context: int, wanted: int) -> Iterator[list[int]]:
    """Cut chats, sorted by length, into batches that memory holds, and in which none has less room for its reply than alone."""
    batch: list[int] = []
    for i in order:
        full = len(batch) == _BATCH or (len(batch) + 1) * (lengths[i] + wanted) > _TOKENS
        if batch and (full or context - lengths[i] < min(wanted, context - lengths[batch[0]])):
            yield batch
            batch = []
        batch.append(i)
    if batch:
        yield batch


def generate(
    net: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chat: Chat,
    *,
    context: int,
    sampling: Sampling,
    on_text: Callable[[str], None] | None = None,
    cache: PromptCache | None = None,
    weights: tuple[int | None, int] = (None, 0),
    draft: Sequence[int] = (),
) -> Reply:
    """Reply to one chat, on the calling thread so that Ctrl-C stops at the next token.

    Parameters
    ----------
    net, tokenizer
        The model, with or without an adapter, and its tokenizer.
    chat
        Messages, the last one the user's.
    context
        Most tokens of prompt and reply together.
    sampling
        How tokens are chosen.
    on_text
        Called with each new piece of text.
    cache
        What is known of the conversation from its last turn. Default: all of it is read.
    weights
        Side and stamp of the weights that answer, for the cache.
    draft
        Tokens that the reply may begin with: those that greedy generation gives are read in one pass. Default: none.

    Raises
    ------
    NbtuneError
        When the chat does not fit into the context.
    """
    stream = _Stream(tokenizer, on_text, sampling.stop)  # its clock runs from here: the user waits for the template, too
    prompt = cache.prompts.of(tokenizer, chat) if cache else chat_ids(tokenizer, chat)
    if before := virtual_tokens(net):  # they stand before a conversation, so that what was read of one is no beginning of it
        context, cache, draft = context - before, None, ()
    if has_encoder(net) or prepares_inputs(net):  # what is said does not simply go on from what was read
        cache, draft = None, ()
    limit = sampling.limit(_room(context, len(prompt)))
    known = cache.take(*weights, prompt) if cache else None
    read = len(prompt) - (known.get_seq_length() if known else 0)
    finished, cut = True, ""
    try:
        said: list[int] = []
        if (draft or known) and sampling.greedy and not sampling.stop:
            said, known = _drafted(net, prompt, draft[: limit - 1], known, stream)
        if len(said) < limit and not (said and said[-1] in _ends(net)):
            with seeded(sampling.seed, net.device):
                said, known = _continued(net, [*prompt, *said], known, sampling.arguments(limit - len(said), tokenizer), stream)
        else:
            stream.end()
            said = [*prompt, *said]
        if len(stream.times) >= limit and said[-1] not in _ends(net) and not stream.stopped:
            cut = "limit" if limit == sampling.limit(context) else "context"
        if cache:
            cache.keep(*weights, said, known)
    except KeyboardInterrupt:
        finished = False
        stream.end()
    times = stream.times or [0.0]
    return Reply(stream.text, finished, len(stream.times), len(prompt), read, times[0], times[-1], cut)


def _drafted(net: PreTrainedModel, prompt: list[int], draft: Sequence[int], known: Any, stream: _Stream) -> tuple[list[int], Any]:
    """Return the first tokens of the reply, most of them of a draft where the model says that, and what is known then."""
    ends = _ends(net)  # the token after the draft may be one
    said, known = read_draft(net, prompt, list(takewhile(lambda token: token not in ends, draft)), known)
    stream.put(torch.tensor(prompt))
    for token in said:
        stream.put(torch.tensor([token]))
    stream.next_tokens_are_prompt = True  # generate hands on what it was given first, these tokens among it
    return said, known


def _continued(net: PreTrainedModel, tokens: list[int], known: Any, arguments: dict[str, Any], stream: _Stream) -> tuple[list[int], Any]:
    """Generate token by token; return all tokens, and what is known then."""
    inputs = torch.tensor([tokens], device=net.device)
    if known and known.get_seq_length() < len(tokens):
        arguments["past_key_values"] = known
    with torch.inference_mode():
        output: Any = net.generate(
            input_ids=inputs, attention_mask=torch.ones_like(inputs), streamer=stream, return_dict_in_generate=True, **arguments
        )
    return output.sequences[0, virtual_tokens(net) :].tolist(), output.past_key_values


def _ends(net: PreTrainedModel) -> set[int | None]:
    """Return the tokens that end a reply."""
    ends = net.generation_config.eos_token_id if net.generation_config else None
    return set(ends if isinstance(ends, list) else [ends])


def generate_batch(
    net: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    chats: Sequence[Chat],
    *,
    context: int,
    sampling: Sampling,
    on_batch: Callable[[int], None] | None = None,
) -> list[str]:
    """Reply to many chats, those of like length together.

    Parameters
    ----------
    net, tokenizer, context, sampling
        As for `generate`.
    chats
        Any number of chats.
    on_batch
        Called after each batch with the number of replies in it.

    Returns
    -------
    list of str
        One reply per chat, in order.
    """
    before = virtual_tokens(net)
    context -= before
    lengths = [prompt_length(tokenizer, chat) for chat in chats]
    order = sorted(range(len(chats)), key=lengths.__getitem__)
    replies = [""] * len(chats)
    with seeded(sampling.seed, net.device):
        for chosen in _batches(order, lengths, context, sampling.max_new_tokens or DEFAULT_NEW_TOKENS):
            room = _room(context, lengths[chosen[0]])
            read = apply_chat_template(tokenizer, [chats[i] for i in chosen], padding=True, return_tensors="pt", return_dict=True).to(
                net.device
            )
            inputs = {name: read[name] for name in ("input_ids", "attention_mask")}  # no types of tokens, which a chat and a fit do without
            with torch.inference_mode():
                output = net.generate(**inputs, **sampling.arguments(sampling.limit(room), tokenizer))
            begin = 1 if has_encoder(net) else before + inputs["input_ids"].shape[1]  # a decoder begins with one token of its own
            texts = tokenizer.batch_decode(output[:, begin:], skip_special_tokens=True)
            for i, text in zip(chosen, texts, strict=True):
                replies[i] = before_stop(text, sampling.stop)
            if on_batch:
                on_batch(len(chosen))
    return replies
