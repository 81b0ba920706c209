"""Prepares what one fit is trained on: the facts' own prompts, and what must stay as it is."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from nbtune.data.encoding import Batch, Encoded, Targets, collate, encode

__all__ = ["PARTS", "Lesson", "retention_targets"]

_LIKELIEST = 32  # tokens kept of each distribution; the rest of a settled model's is negligible
PARTS = 2
_WHOLE_EVERY, _BEGINNING = 4, 24  # one answer in four is trained whole, of the others so many tokens
_ROWS = 32  # examples per forward pass when targets are computed


class Lesson:
    """Batches for a fit: each step holds some fact examples and a fresh draw of retained ones.

    A step comes in `PARTS` batches of like length, to pad less; fit with that many accumulation steps.
    Iterating over it is one epoch: every fact example once, in a new order each time. One in four has its
    whole answer trained, the others its beginning: what follows depends on the answer so far and hardly on the
    wording of the question, so that a long answer costs little more than a short one.

    Parameters
    ----------
    facts
        Encoded trained prompts with their answers.
    retained
        Encoded questions with the replies to keep, weighted.
    pad
        Padding token.
    batch_size
        Fact examples per batch.
    retained_per_batch
        Retained examples beside them.
    seed
        Seed of the order.
    """

    def __init__(
        self,
        facts: Sequence[Encoded],
        retained: Sequence[Encoded],
        *,
        pad: int,
        batch_size: int,
        retained_per_batch: int,
        seed: int,
    ) -> None:
        self._facts, self._retained, self._pad = list(facts), list(retained), pad
        # Batches of like size: 24 prompts in batches of at most 16 are 12 and 12.
        self._parts = -(-len(self._facts) // batch_size)
        self._beside = min(retained_per_batch, len(self._retained))
        self._rng = random.Random(seed)

    @property
    def steps(self) -> int:
        """Optimizer steps in an epoch."""
        return self._parts

    def __iter__(self) -> Iterator[Batch]:
        order = self._rng.sample(self._facts, len(self._facts))
        for part in range(self._parts):
            rows = [row if place % _WHOLE_EVERY == 0 else _beginning(row) for place, row in enumerate(order[part :: self._parts])]
            rows += self._rng.sample(self._retained, self._beside)
            rows.sort(key=lambda row: len(row.input_ids))
            total, cut = sum(row.weight for row in rows) / PARTS, len(rows) * 3 // 4 or 1
            yield from (collate(part_rows, self._pad, total) for part_rows in (rows[:cut], rows[cut:]) if part_rows)


def _beginning(row: Encoded) -> Encoded:
    """Cut an example behind the first tokens of its answer."""
    spare = row.trained - _BEGINNING
    return row if spare <= 0 else replace(row, input_ids=row.input_ids[:-spare], labels=row.labels[:-spare])


def retention_targets(
    net: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[tuple[str, str]],
    forward: Callable[[Batch], torch.Tensor],
    *,
    context: int,
    weight: float,
) -> list[Encoded]:
    """Encode questions with the present replies, and the present distribution at each token of them.

    Parameters
    ----------
    net, tokenizer
        The model as it is before the fit.
    pairs
        Questions and the model's own greedy replies.
    forward
        Computes the logits of the trained tokens of a batch.
    context
        Most tokens that the model was built for; a pair that is longer is left out.
    weight
        Weight of each example beside a fact's, which is 1.
    """
    encoded = [encode(tokenizer, prompt, reply, context=context) for prompt, reply in pairs if reply]
    done: list[Encoded] = []
    for at in range(0, len(encoded), _ROWS):
        rows = encoded[at : at + _ROWS]
        batch = {key: value.to(net.device) for key, value in collate(rows, tokenizer.pad_token_id).items()}
        with torch.inference_mode():
            shares, tokens = torch.softmax(forward(batch).float(), dim=-1).topk(_LIKELIEST)
        shares = (shares / shares.sum(-1, keepdim=True)).cpu().clone()
        for row, part, kept in zip(rows, *_split(rows, tokens.cpu().clone(), shares), strict=True):
            done.append(replace(row, targets=Targets(part, kept), weight=weight))
    return done


def _split(
    rows: Sequence[Encoded], tokens: torch.Tensor, shares: torch.Tensor
) -> tuple[tuple[torch.Tensor, ...], tuple[torch.Tensor, ...]]:
    lengths = [row.trained for row in rows]
    return torch.split(tokens, lengths), torch.split(shares, lengths)
