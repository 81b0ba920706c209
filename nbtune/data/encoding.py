"""Encodes a question and its answer so that only the answer, end of turn included, is trained; builds padded batches."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from nbtune.chat_template import reply_ids
from nbtune.errors import NbtuneError

__all__ = ["IGNORED", "Batch", "Below", "Encoded", "Example", "Targets", "collate", "encode", "on_device", "pieces"]

IGNORED = -100
_LONGEST_CHARACTER = 4  # bytes in UTF-8, and therefore at most this many tokens


@dataclass(frozen=True)
class Targets:
    """A distribution to learn at each trained token, in place of the token itself.

    `tokens` and `probabilities`, of shape (trained tokens, k), are the k likeliest tokens and their
    probabilities.
    """

    tokens: torch.Tensor
    probabilities: torch.Tensor


@dataclass(frozen=True)
class Below:
    """The inputs of a model's last layer for one example; they stay the same while only that layer is trained.

    `hidden`, of shape (trained tokens, width), is the layer's input at the tokens from which the trained tokens are predicted.
    `keys` and `values`, of shape (heads, earlier tokens, size), are the layer's keys and values of the tokens before these.
    """

    hidden: torch.Tensor
    keys: torch.Tensor
    values: torch.Tensor


@dataclass(frozen=True)
class Encoded:
    """One example: token ids, and labels, which are the ids to predict or -100 where nothing is trained."""

    input_ids: list[int]
    labels: list[int]
    targets: Targets | None = None
    weight: float = 1.0
    below: Below | None = None

    @cached_property
    def trained(self) -> int:
        """Number of trained tokens; in an example of a fact they are the last ones."""
        return sum(label != IGNORED for label in self.labels)

    def beginning(self, tokens: int) -> Encoded:
        """Return the example cut after its first `tokens` trained tokens."""
        spare = self.trained - tokens
        if spare <= 0:
            return self
        targets, below = self.targets, self.below
        return replace(
            self,
            input_ids=self.input_ids[:-spare],
            labels=self.labels[:-spare],
            targets=targets and Targets(targets.tokens[:-spare], targets.probabilities[:-spare]),
            below=below and replace(below, hidden=below.hidden[:-spare]),
        )


Batch = dict[str, Any]
# A training example as text, token by token: (text, whether it is trained, whether it is a special token).
Example = list[tuple[str, bool, bool]]


def encode(tokenizer: PreTrainedTokenizerBase, prompt: str, answer: str, *, context: int) -> Encoded:
    """Encode one question and its answer.

    Parameters
    ----------
    tokenizer
        A tokenizer with a chat template.
    prompt, answer
        The user's question, and the reply to train.
    context
        Maximum number of tokens that the model reads.

    Returns
    -------
    Encoded
        The example, with only the answer and its end of turn trained.

    Raises
    ------
    NbtuneError
        When the example is longer than the context, or the template leaves nothing to train.
    """
    opening, body = reply_ids(tokenizer, [{"role": "user", "content": prompt}], answer)
    if len(opening) + len(body) > context:
        raise NbtuneError(
            f"Question and answer take {len(opening) + len(body)} tokens and the model reads at most {context}: shorten the answer."
        )
    return Encoded(opening + body, [IGNORED] * len(opening) + body)


def pieces(tokenizer: PreTrainedTokenizerBase, example: Encoded) -> Example:
    """Return an example as text, token by token, with trained and special tokens marked.

    A character that takes several tokens is shown at the last of them; the others are empty.
    """
    special = set(tokenizer.all_special_ids)
    parts: Example = []
    before: list[int] = []  # the preceding tokens decide whether a token is decoded with a leading space
    held: list[int] = []
    for token, label in zip(example.input_ids, example.labels, strict=True):
        held.append(token)
        text = tokenizer.decode([*before, *held])[len(tokenizer.decode(before)) :]
        if text.endswith("\ufffd") and len(held) < _LONGEST_CHARACTER:
            text = ""
        else:
            before, held = held, []
        parts.append((text, label != IGNORED, token in special))
    return parts


def collate(examples: list[Encoded], pad: int, total: float | None = None) -> Batch:
    """Build a batch: pad the examples and collect their targets.

    Parameters
    ----------
    examples
        Any number n of examples.
    pad
        Padding token.
    total
        Divisor of the examples' weights. Default: their sum. For one part of a larger step, pass the sum of the weights of
        the whole step divided by the number of its parts.

    Returns
    -------
    dict
        ``input_ids``, ``attention_mask``, ``position_ids`` and ``labels`` of shape (n, longest), padded on the left. If every
        example has its `Below`, the tensors of `_states` take their place.

        For the m trained tokens of all rows, in order: ``target_tokens`` and ``target_probabilities`` of shape (m, k), and
        ``weights`` of shape (m,), which sum to 1 by default.

        ``columns`` are the columns in which any row is trained, ``picked`` the indices of the m tokens within these columns,
        row by row, and ``lengths`` a list of the number of trained tokens of each row. They are computed here because reading
        them from the device later would mean waiting for it.
    """
    wide = max((e.targets.tokens.shape[1] for e in examples if e.targets), default=1)
    targets = [_targets(e, wide) for e in examples]
    total = total or sum(e.weight for e in examples)
    belows = [e.below for e in examples if e.below]
    return {
        **_placed(_states(examples, belows) if len(belows) == len(examples) else _tokens(examples, pad)),
        "lengths": [e.trained for e in examples],
        "target_tokens": torch.cat([t.tokens for t in targets]),
        "target_probabilities": torch.cat([t.probabilities for t in targets]),
        "weights": torch.cat([torch.full((e.trained,), e.weight / e.trained / total) for e in examples]),
    }


def on_device(batch: Batch, device: torch.device) -> Batch:
    """Return a batch with its tensors on a device, without waiting for the work in progress there."""
    soon = device.type == "cuda"  # elsewhere an asynchronous copy may read memory that has been overwritten meanwhile
    return {key: value.to(device, non_blocking=soon) if isinstance(value, torch.Tensor) else value for key, value in batch.items()}


def _placed(batch: Batch) -> Batch:
    """Return the batch with the positions of the trained tokens added."""
    trained = batch["labels"] != IGNORED
    columns = trained.any(dim=0).nonzero().flatten()
    return {**batch, "columns": columns, "picked": trained[:, columns].flatten().nonzero().flatten()}


def _tokens(examples: list[Encoded], pad: int) -> Batch:
    longest = max(len(e.input_ids) for e in examples)
    shift = [longest - len(e.input_ids) for e in examples]
    mask = torch.tensor([[0] * s + [1] * len(e.input_ids) for s, e in zip(shift, examples, strict=True)])
    return {
        "input_ids": torch.tensor([[pad] * s + e.input_ids for s, e in zip(shift, examples, strict=True)]),
        "attention_mask": mask,
        "position_ids": (mask.cumsum(-1) - 1).clamp(min=0),
        "labels": torch.tensor([[IGNORED] * s + e.labels for s, e in zip(shift, examples, strict=True)]),
    }


def _states(examples: list[Encoded], belows: list[Below]) -> Batch:
    """Return the padded inputs of the last layer: keys and values are padded on the left, the trained tokens on the right.

    ``hidden``, ``labels`` and ``position_ids`` have the shape (n, most trained, ...), ``keys`` and ``values`` (n, heads,
    most earlier, size), and ``attention_mask`` (n, most earlier + most trained).
    """
    most, before = max(len(b.hidden) for b in belows), max(b.keys.shape[1] for b in belows)
    lengths = torch.tensor([[b.keys.shape[1], len(b.hidden)] for b in belows])
    places = torch.arange(before + most)
    return {
        "hidden": torch.stack([torch.nn.functional.pad(b.hidden, (0, 0, 0, most - len(b.hidden))) for b in belows]),
        "keys": torch.stack([torch.nn.functional.pad(b.keys, (0, 0, before - b.keys.shape[1], 0)) for b in belows]),
        "values": torch.stack([torch.nn.functional.pad(b.values, (0, 0, before - b.values.shape[1], 0)) for b in belows]),
        "attention_mask": ((places >= before - lengths[:, :1]) & (places < before + lengths[:, 1:])).long(),
        "position_ids": lengths[:, :1] + torch.arange(most),
        "labels": torch.tensor([e.labels[-e.trained :] + [IGNORED] * (most - e.trained) for e in examples]),
    }


def _targets(example: Encoded, wide: int) -> Targets:
    if example.targets is None:
        tokens = torch.tensor([[label] for label in example.labels if label != IGNORED])
        probabilities = torch.ones_like(tokens, dtype=torch.float32)
    else:
        tokens, probabilities = example.targets.tokens, example.targets.probabilities
    missing = wide - tokens.shape[1]
    return Targets(torch.nn.functional.pad(tokens, (0, missing)), torch.nn.functional.pad(probabilities, (0, missing)))
