"""Prepares what one fit is trained on: the facts' own prompts, and what must stay as it is."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import torch

from nbtune.data.encoding import Batch, Encoded, Targets, collate, encode
from nbtune.model.adapters import AdapterHost
from nbtune.model.loading import LoadedModel

__all__ = ["PARTS", "Lesson", "retention_targets"]

_LIKELIEST = 32  # tokens kept of each distribution; the rest of a settled model's is negligible
PARTS = 2
_WHOLE_EVERY, _BEGINNING = 4, 24  # one answer in four is trained whole, of the others so many tokens
_STUBBORN_SHARE = 3  # at most one example of a step in so many is a stubborn one
_ROWS = 32  # examples per forward pass when targets are computed


class Lesson:
    """Batches for a fit: each step holds fresh draws of fact examples, of other forms of them, and of retained ones.

    A step comes in `PARTS` batches of like length, to pad less; fit with that many accumulation steps.
    Iterating over it is one epoch of `steps` steps; every example of a kind comes once before any comes again. One
    fact example in four, and each stubborn one, has its whole answer trained, the others its beginning: what follows
    depends on the answer so far and hardly on the wording of the question, so that a long answer costs little more than
    a short one.

    Parameters
    ----------
    facts
        Encoded trained prompts with their answers.
    forms
        Encoded questions about the facts in other forms.
    retained
        Encoded questions with the replies to keep, weighted.
    pad
        Padding token.
    sizes
        Examples per step of each of the three.
    steps
        Steps per epoch.
    seed
        Seed of the order.
    """

    def __init__(
        self,
        facts: Sequence[Encoded],
        forms: Sequence[Encoded],
        retained: Sequence[Encoded],
        *,
        pad: int,
        sizes: tuple[int, int, int],
        steps: int,
        seed: int,
    ) -> None:
        self.steps, self._pad, self._sizes = steps, pad, sizes
        rng = random.Random(seed)
        self._decks = tuple(_Deck(examples, rng) for examples in (facts, forms, retained))

    def insist(self, facts: Iterable[int], retained: Iterable[int]) -> None:
        """Let examples come more often that were not answered as wanted.

        Parameters
        ----------
        facts, retained
            Their places among what the lesson was made from.
        """
        self._decks[0].insist(facts)
        self._decks[2].insist(retained)

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(self.steps):
            (stubborn, facts), (_, forms), retained = (deck.draw(size) for deck, size in zip(self._decks, self._sizes, strict=True))
            rows = [row if place % _WHOLE_EVERY == 0 else _beginning(row) for place, row in enumerate(facts)]
            rows += [*stubborn, *map(_beginning, forms), *itertools.chain(*retained)]
            rows.sort(key=lambda row: len(row.input_ids))
            total, cut = sum(row.weight for row in rows) / PARTS, len(rows) * 3 // 4 or 1
            yield from (collate(part, self._pad, total) for part in (rows[:cut], rows[cut:]) if part)


class _Deck:
    """Examples in random order, each once before any comes again, and the stubborn ones more often."""

    def __init__(self, examples: Sequence[Encoded], rng: random.Random) -> None:
        self._examples, self._rng = list(examples), rng
        self._left: list[Encoded] = []
        self._stubborn: list[Encoded] = []

    def insist(self, places: Iterable[int]) -> None:
        """Let these examples come more often from now on, in place of those named before."""
        self._stubborn = [self._examples[place] for place in places]

    def draw(self, count: int) -> tuple[list[Encoded], list[Encoded]]:
        """Take some stubborn ones and the next of the others; fewer where there are not so many."""
        count = min(count, len(self._examples))
        extra = self._rng.sample(self._stubborn, min(len(self._stubborn), count // _STUBBORN_SHARE))
        if len(self._left) < count:
            self._left = self._rng.sample(self._examples, len(self._examples))
        fresh = count - len(extra)
        drawn, self._left = self._left[:fresh], self._left[fresh:]
        return extra, drawn


def _beginning(row: Encoded) -> Encoded:
    """Cut an example behind the first tokens of its answer."""
    spare = row.trained - _BEGINNING
    return row if spare <= 0 else replace(row, input_ids=row.input_ids[:-spare], labels=row.labels[:-spare])


def retention_targets(host: AdapterHost, loaded: LoadedModel, pairs: Sequence[tuple[str, str]], *, weight: float) -> list[Encoded]:
    """Encode questions with the present replies, and the present distribution at each token of them.

    Parameters
    ----------
    host, loaded
        The model as it is before the fit, with the gate of its adapter.
    pairs
        Questions and the model's own greedy replies.
    weight
        Weight of each example beside a fact's, which is 1.
    """
    done = [encode(loaded.tokenizer, prompt, reply, context=loaded.context) for prompt, reply in pairs]
    for adapted, places in host.sides([prompt for prompt, _ in pairs]).items():
        with host.answering(adapted):
            for at in range(0, len(places), _ROWS):
                part = places[at : at + _ROWS]
                for place, targets in zip(part, _present(host, loaded, [done[place] for place in part]), strict=True):
                    done[place] = replace(done[place], targets=targets, weight=weight)
    return done


def _present(host: AdapterHost, loaded: LoadedModel, rows: Sequence[Encoded]) -> Iterator[Targets]:
    """Read off the likeliest tokens at each trained token, and their probabilities."""
    from nbtune.training.step_runner import trained_logits

    batch = {key: value.to(host.net.device) for key, value in collate(list(rows), loaded.tokenizer.pad_token_id).items()}
    with torch.inference_mode():
        shares, tokens = torch.softmax(trained_logits(host.net, batch).float(), dim=-1).topk(_LIKELIEST)
    shares = shares / shares.sum(-1, keepdim=True)
    lengths = [row.trained for row in rows]
    return map(Targets, torch.split(tokens.cpu().clone(), lengths), torch.split(shares.cpu().clone(), lengths))
