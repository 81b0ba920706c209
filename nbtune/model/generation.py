"""Generates replies to chats, greedy or sampled: one at a time as a stream, or many in batches."""

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

__all__ = ["Chat", "Reply", "check_room", "generate", "generate_batch", "prompt_length", "user_words"]

Chat = list[dict[str, str]]
_AT_ONCE = 1e-4  # seconds per token, less than any model takes to compute one
_BATCH, _TOKENS = 48, 2**14  # most chats in a batch, and most tokens, replies included


@dataclass(frozen=True)
class Reply:
    """Reply of the model, with its statistics.

    Parameters
    ----------
    text
        The reply.
    finished
        False if Ctrl-C cut the reply short.
    tokens
        Number of generated tokens.
    prompt_tokens, prompt_tokens_read
        Number of tokens in the prompt, and of those read for this reply; the others were cached in an earlier turn.
    first_token_seconds, seconds
        Seconds until the first token and until the last.
    cut
        Why the reply is incomplete: ``"limit"`` if it reached `max_new_tokens`, ``"context"`` if the context was full; otherwise empty.
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
        """Return the speed and the token counts of the reply in one line."""
        seconds = self.seconds - self.first_token_seconds
        # An answer that was verified in one pass comes all at once: its rate would be that of handing it on.
        rate = f"{(self.tokens - 1) / seconds:.0f} tokens/s · " if self.tokens > 1 and seconds > _AT_ONCE * self.tokens else ""
        read = f"read {self.prompt_tokens_read} of {self.prompt_tokens}"
        return f"first token {self.first_token_seconds * 1000:.0f} ms · {rate}{self.tokens} tokens · {read}"


class _Stream(TextStreamer):
    """Streamer that passes on decoded text as it grows, up to a stop text, and keeps all of it in case the reply is interrupted."""

    token_cache: list[int]

    def __init__(self, tokenizer: PreTrainedTokenizerBase, on_text: Callable[[str], None] | None, stop: Sequence[str] = ()) -> None:
        super().__init__(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.text, self._on_text = "", on_text
        self._stop, self._generated = stop, ""
        self._began = time.perf_counter()
        self.times: list[float] = []  # seconds from the start to each token

    def put(self, value: Any) -> None:
        """Take the prompt, then each token (hook of transformers)."""
        if self.next_tokens_are_prompt:
            super().put(value)
            return
        self.times.append(time.perf_counter() - self._began)
        super().put(value)
        if not self.token_cache:  # a line ended: keep its last token, as some tokenizers drop a space at the beginning of a text
            self.token_cache = value.flatten().tolist()[-1:]
            self.print_len = len(self.tokenizer.decode(self.token_cache, **self.decode_kwargs))

    @property
    def stopped(self) -> bool:
        """Whether a stop text was generated."""
        return before_stop(self._generated, self._stop) != self._generated

    def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
        """Take a piece of text that will not change any more (hook of transformers)."""
        self._generated += text
        shown = before_stop(self._generated, self._stop)
        if shown == self._generated and not stream_end:  # the last characters may be the beginning of a stop text
            shown = shown[: max(0, len(shown) - max(map(len, self._stop), default=1) + 1)]
        piece = shown[len(self.text) :]
        self.text += piece
        if piece and self._on_text:
            self._on_text(piece)


def user_words(chat: Chat) -> str:
    """Return all user messages of a chat, one per line.

    This text decides which adapter answers; earlier messages are part of it so that a question about "it" stays with its fact.
    """
    return "\n".join(message["content"] for message in chat if message["role"] == "user")


def prompt_length(tokenizer: PreTrainedTokenizerBase, chat: Chat) -> int:
    """Return the number of tokens of a chat, including the opening of the reply."""
    return len(chat_ids(tokenizer, chat))


def check_room(tokenizer: PreTrainedTokenizerBase, chats: Sequence[Chat], context: int) -> None:
    """Check, before any reply is generated, that each of several chats leaves room for one.

    Raises
    ------
    NbtuneError
        For the first that does not; the message names it by number, from 1.
    """
    for number, chat in enumerate(chats, start=1):
        _room(context, prompt_length(tokenizer, chat), f"Question {number}" if len(chats) > 1 else "The prompt")


def _room(context: int, length: int, which: str = "The prompt") -> int:
    if length >= context:
        raise NbtuneError(f"{which} takes {length} tokens and the model reads at most {context}, its reply included: shorten it.")
    return context - length


def _batches(order: list[int], lengths: list[int], context: int, wanted: int) -> Iterator[list[int]]:
    """Split chats, sorted by length, into batches that fit into memory and leave each chat as much room for its reply as it has alone."""
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
    """Reply to one chat, on the calling thread, so that Ctrl-C stops at the next token.

    Parameters
    ----------
    net, tokenizer
        The model, with or without an adapter, and its tokenizer.
    chat
        Messages; the last one is the user's.
    context
        Most tokens of prompt and reply together.
    sampling
        How tokens are chosen.
    on_text
        Called with each new piece of text.
    cache
        Cache of earlier turns, which is updated. Default: the whole conversation is read.
    weights
        Side and stamp of the weights that answer, for the cache.
    draft
        Tokens that the reply may begin with; those that agree with greedy generation are read in one pass. Default: none.

    Returns
    -------
    Reply
        The reply; after Ctrl-C, the text generated until then.

    Raises
    ------
    NbtuneError
        When the chat does not fit into the context.
    """
    stream = _Stream(tokenizer, on_text, sampling.stop)  # starts the clock: the user waits for the template, too
    prompt = cache.prompts.tokenize(tokenizer, chat) if cache else chat_ids(tokenizer, chat)
    if before := virtual_tokens(net):  # they come before the conversation, so that what was read of it can't be used as its beginning
        context, cache, draft = context - before, None, ()
    if has_encoder(net) or prepares_inputs(net):  # the reply can't simply be continued from keys and values read before
        cache, draft = None, ()
    limit = sampling.limit(_room(context, len(prompt)))
    known = cache.take(*weights, prompt) if cache else None
    read = len(prompt) - (known.get_seq_length() if known else 0)
    finished, cut = True, ""
    try:
        said: list[int] = []
        if (draft or known) and sampling.greedy and not sampling.stop:
            said, known = _read_draft(net, prompt, draft[: limit - 1], known, stream)
        if len(said) < limit and not (said and said[-1] in _ends(net)):
            with seeded(sampling.seed, net.device):
                said, known = _continue(net, [*prompt, *said], known, sampling.arguments(limit - len(said), tokenizer), stream)
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


def _read_draft(net: PreTrainedModel, prompt: list[int], draft: Sequence[int], known: Any, stream: _Stream) -> tuple[list[int], Any]:
    """Return the first tokens of the reply, as many as possible from a draft, and the keys and values known then."""
    ends = _ends(net)  # left out of the draft, but the token after the draft may be one
    said, known = read_draft(net, prompt, list(takewhile(lambda token: token not in ends, draft)), known)
    stream.put(torch.tensor(prompt))
    for token in said:
        stream.put(torch.tensor([token]))
    stream.next_tokens_are_prompt = True  # generate first streams its whole input, and these tokens with it
    return said, known


def _continue(net: PreTrainedModel, tokens: list[int], known: Any, arguments: dict[str, Any], stream: _Stream) -> tuple[list[int], Any]:
    """Generate token by token; return all tokens, including the given ones, and the keys and values known then."""
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
    """Reply to many chats, batching chats of similar length.

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

    Raises
    ------
    NbtuneError
        When a chat does not fit into the context.
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
            inputs = {name: read[name] for name in ("input_ids", "attention_mask")}  # no token_type_ids: neither chat nor fit uses them
            with torch.inference_mode():
                output = net.generate(**inputs, **sampling.arguments(sampling.limit(room), tokenizer))
            begin = 1 if has_encoder(net) else before + inputs["input_ids"].shape[1]  # a decoder begins with a start token
            texts = tokenizer.batch_decode(output[:, begin:], skip_special_tokens=True)
            for i, text in zip(chosen, texts, strict=True):
                replies[i] = before_stop(text, sampling.stop)
            if on_batch:
                on_batch(len(chosen))
    return replies
