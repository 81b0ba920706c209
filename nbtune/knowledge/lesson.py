"""Prepares the batches of a fit: the facts' prompts, their other forms, and questions whose replies must not change."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace

import torch

from nbtune.data.encoding import Batch, Encoded, Targets, collate, encode, on_device
from nbtune.errors import NbtuneError
from nbtune.knowledge.asking import parts
from nbtune.model.loading import LoadedModel

__all__ = ["PARTS", "Lesson", "retention_targets"]

_LIKELIEST = 32  # tokens kept of each distribution; in a trained model the rest is negligible
PARTS = 2
_KINDS = ("facts", "forms", "retained")
# One example in N of each kind is trained whole. The others are cut after their first 4 trained tokens, at which the reply is
# chosen: these tokens get more weight, and a long answer costs little more than a short one. Measured in docs/experiments.md.
_WHOLE_EVERY, _CHOICE = {"facts": 4, "forms": 2, "retained": 1}, 4
# Examples with 40 trained tokens or more are trained whole less often.
_LONG, _LONG_WHOLE_EVERY = 40, {"facts": 4, "forms": 4, "retained": 2}


class Lesson:
    """Batches for a fit: each step draws fact examples, other forms of the facts, and retained examples.

    A step is yielded as `PARTS` batches of examples of similar length, to reduce padding; train with that many gradient
    accumulation steps. One iteration is one epoch of `steps` steps. Up to half of each draw are examples that were wrong when
    last seen; the rest are those that have not been seen for longest.

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
        Examples per step of each of the three kinds.
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
        self.steps, self.pad, self._sizes, self._seed = steps, pad, sizes, seed
        self.examples = [*facts, *forms, *retained]
        ends = list(itertools.accumulate(map(len, (facts, forms, retained))))
        self._ranges = [range(begin, end) for begin, end in zip((0, *ends), ends, strict=False)]
        self.begin()

    def begin(self) -> None:
        """Start again, with all examples unseen."""
        rng = random.Random(self._seed)
        self._decks = {kind: _Deck(places, size, rng) for kind, places, size in zip(_KINDS, self._ranges, self._sizes, strict=True)}

    def places(self, kind: str) -> range:
        """Return the indices of the examples of a kind in `examples`."""
        return self._decks[kind].places

    def wrong(self, kind: str) -> list[int]:
        """Return the indices of the examples of a kind that were wrong when last seen."""
        return sorted(self._decks[kind].wrong)

    def share(self, kind: str) -> float:
        """Return the share of the examples of a kind that were right when last seen; 1 if there are none."""
        deck = self._decks[kind]
        return 1 - (len(deck.wrong) + len(deck.unseen)) / len(deck.places) if deck.places else 1.0

    def mark(self, places: Sequence[int], right: Sequence[bool], seen: Sequence[int]) -> None:
        """Record whether examples were right just now.

        Parameters
        ----------
        places, right
            Indices in `examples`, and whether every trained token was the likeliest one.
        seen
            Number of trained tokens of each example that were checked.
        """
        for place, is_right, tokens in zip(places, right, seen, strict=True):
            deck = next(deck for deck in self._decks.values() if place in deck.places)
            deck.mark(place, is_right, whole=tokens == self.examples[place].trained)

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(self.steps):
            rows = [row for kind, deck in self._decks.items() for row in self._cut(kind, deck.draw())]
            rows.sort(key=lambda row: row[1].trained if row[1].below else len(row[1].input_ids))
            total, cut = sum(row.weight for _, row in rows) / PARTS, len(rows) * 3 // 4
            # A single row is yielded as both parts, so its weight is halved.
            for part in (rows[:cut], rows[cut:]) if cut else (rows, rows):
                places, examples = zip(*part, strict=True)
                yield {**collate(list(examples), self.pad, total if cut else 2 * total), "places": list(places)}

    def _cut(self, kind: str, drawn: Sequence[int]) -> Iterator[tuple[int, Encoded]]:
        """Yield the drawn examples with their indices, some whole and the others cut after their beginning."""
        for number, place in enumerate(drawn):
            example = self.examples[place]
            every = _WHOLE_EVERY[kind] if example.trained < _LONG else _LONG_WHOLE_EVERY[kind]
            whole = number % every == 0 or place in self._decks[kind].wrong_whole
            yield place, example if whole else example.beginning(_CHOICE)


class _Deck:
    """Queue of the examples of one kind, those not seen for longest first."""

    def __init__(self, places: range, size: int, rng: random.Random) -> None:
        self.places, self._size, self._rng = places, min(size, len(places)), rng
        self._queue = rng.sample(places, len(places))
        # `wrong_whole` are those that were wrong when seen whole: a right beginning does not clear them.
        self.unseen, self.wrong, self.wrong_whole = set(places), set[int](), set[int]()

    def mark(self, place: int, right: bool, *, whole: bool) -> None:
        """Record whether an example, or its beginning, was right just now."""
        self.unseen.discard(place)
        if whole and right:
            self.wrong_whole.discard(place)
        elif whole:
            self.wrong_whole.add(place)
        if right and place not in self.wrong_whole:
            self.wrong.discard(place)
        else:
            self.wrong.add(place)

    def draw(self) -> list[int]:
        """Return the examples for one step and put them at the end of the queue."""
        again = self._rng.sample(sorted(self.wrong), min(len(self.wrong), self._size // 2))
        kept = set(again)
        drawn = again + [place for place in self._queue if place not in kept][: self._size - len(again)]
        kept = set(drawn)
        self._queue = [place for place in self._queue if place not in kept] + drawn
        return drawn


def retention_targets(loaded: LoadedModel, pairs: Sequence[tuple[str, str]], *, weight: float) -> list[Encoded]:
    """Encode questions with the base's replies and, as targets, its distribution at each token of the replies.

    Parameters
    ----------
    loaded
        The base, without an adapter.
    pairs
        Questions and the base's greedy replies.
    weight
        Weight of each example, relative to 1 for a fact's example.

    Returns
    -------
    list of Encoded
        The examples, without those that are too long for the context.
    """
    encoded: list[Encoded] = []
    for prompt, reply in pairs:
        with suppress(NbtuneError):  # a reply that fills the context leaves no room for its end of turn, and is left out
            encoded.append(encode(loaded.tokenizer, prompt, reply, context=loaded.context))
    done = list(encoded)
    for places in parts(encoded, len(loaded.tokenizer)):
        for place, targets in zip(places, _present(loaded, [encoded[place] for place in places]), strict=True):
            done[place] = replace(encoded[place], targets=targets, weight=weight)
    return done


def _present(loaded: LoadedModel, rows: Sequence[Encoded]) -> Iterator[Targets]:
    """Return the likeliest tokens at each trained token, with their probabilities."""
    from nbtune.training.step_runner import trained_logits

    batch = on_device(collate(list(rows), loaded.tokenizer.pad_token_id), loaded.model.device)
    with torch.inference_mode():
        probabilities, tokens = torch.softmax(trained_logits(loaded.model, batch).float(), dim=-1).topk(_LIKELIEST)
    probabilities = probabilities / probabilities.sum(-1, keepdim=True)
    lengths = [row.trained for row in rows]
    return map(Targets, torch.split(tokens.cpu().clone(), lengths), torch.split(probabilities.cpu().clone(), lengths))
