"""Prepares what one fit is trained on: the facts' own prompts, their other forms, and what must stay as it is."""

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

_LIKELIEST = 32  # tokens kept of each distribution; the rest of a settled model's is negligible
PARTS = 2
_KINDS = ("facts", "forms", "retained")
# One example of each kind in so many is trained whole; the others only as far as the choice of what to say is made, so that
# it has weight, and a long answer costs little more than a short one.
_WHOLE_EVERY, _CHOICE = {"facts": 4, "forms": 2, "retained": 1}, 4
# Those of many trained tokens come whole less often.
_LONG, _LONG_WHOLE_EVERY = 40, {"facts": 4, "forms": 4, "retained": 2}


class Lesson:
    """Batches for a fit: each step holds draws of fact examples, of other forms of them, and of what must stay.

    A step comes in `PARTS` batches of like length, to pad less; fit with that many accumulation steps.
    Iterating over it is one epoch of `steps` steps. Half of each draw are examples that were wrong when last seen, as far
    as there are any, the rest are those that were not seen for longest.

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
        self.steps, self.pad, self._sizes, self._seed = steps, pad, sizes, seed
        self.examples = [*facts, *forms, *retained]
        ends = list(itertools.accumulate(map(len, (facts, forms, retained))))
        self._ranges = [range(begin, end) for begin, end in zip((0, *ends), ends, strict=False)]
        self.begin()

    def begin(self) -> None:
        """Begin anew: nothing has been seen."""
        rng = random.Random(self._seed)
        self._decks = {kind: _Deck(places, size, rng) for kind, places, size in zip(_KINDS, self._ranges, self._sizes, strict=True)}

    def places(self, kind: str) -> range:
        """Return where the examples of a kind stand in `examples`."""
        return self._decks[kind].places

    def wrong(self, kind: str) -> list[int]:
        """Return the places of the examples of a kind that were wrong when last seen."""
        return sorted(self._decks[kind].wrong)

    def share(self, kind: str) -> float:
        """Return the share of the examples of a kind that were right when last seen; 1 where there are none."""
        deck = self._decks[kind]
        return 1 - (len(deck.wrong) + len(deck.unseen)) / len(deck.places) if deck.places else 1.0

    def mark(self, places: Sequence[int], right: Sequence[bool], seen: Sequence[int]) -> None:
        """Keep whether examples were right just now.

        Parameters
        ----------
        places, right
            Where they stand in `examples`, and whether every token was the likeliest one.
        seen
            How many trained tokens of each were looked at.
        """
        for place, is_right, tokens in zip(places, right, seen, strict=True):
            deck = next(deck for deck in self._decks.values() if place in deck.places)
            deck.mark(place, is_right, whole=tokens == self.examples[place].trained)

    def __iter__(self) -> Iterator[Batch]:
        for _ in range(self.steps):
            rows = [row for kind, deck in self._decks.items() for row in self._cut(kind, deck.draw())]
            rows.sort(key=lambda row: row[1].trained if row[1].below else len(row[1].input_ids))
            total, cut = sum(row.weight for _, row in rows) / PARTS, len(rows) * 3 // 4
            # A single row makes both parts of a step, and counts double.
            for part in (rows[:cut], rows[cut:]) if cut else (rows, rows):
                places, examples = zip(*part, strict=True)
                yield {**collate(list(examples), self.pad, total if cut else 2 * total), "places": list(places)}

    def _cut(self, kind: str, drawn: Sequence[int]) -> Iterator[tuple[int, Encoded]]:
        """Leave some examples whole, and cut the others behind their beginning."""
        for number, place in enumerate(drawn):
            example = self.examples[place]
            every = _WHOLE_EVERY[kind] if example.trained < _LONG else _LONG_WHOLE_EVERY[kind]
            whole = number % every == 0 or place in self._decks[kind].wrong_whole
            yield place, example if whole else example.beginning(_CHOICE)


class _Deck:
    """The examples of one kind, in the order in which they were last seen."""

    def __init__(self, places: range, size: int, rng: random.Random) -> None:
        self.places, self._size, self._rng = places, min(size, len(places)), rng
        self._queue = rng.sample(places, len(places))
        # Wrong when last seen; of these, the ones that were wrong as a whole: that their beginning is right says nothing.
        self.unseen, self.wrong, self.wrong_whole = set(places), set[int](), set[int]()

    def mark(self, place: int, right: bool, *, whole: bool) -> None:
        """Keep whether an example, or its beginning, was right just now."""
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
        """Take examples for one step."""
        again = self._rng.sample(sorted(self.wrong), min(len(self.wrong), self._size // 2))
        kept = set(again)
        drawn = again + [place for place in self._queue if place not in kept][: self._size - len(again)]
        kept = set(drawn)
        self._queue = [place for place in self._queue if place not in kept] + drawn
        return drawn


def retention_targets(loaded: LoadedModel, pairs: Sequence[tuple[str, str]], *, weight: float) -> list[Encoded]:
    """Encode questions with the base's replies, and its distribution at each token of them.

    Parameters
    ----------
    loaded
        The base; no adapter is on it.
    pairs
        Questions and its own greedy replies.
    weight
        Weight of each example beside a fact's, which is 1.
    """
    encoded: list[Encoded] = []
    for prompt, reply in pairs:
        with suppress(NbtuneError):  # one that fills what the model reads leaves no room for its end, and is left out
            encoded.append(encode(loaded.tokenizer, prompt, reply, context=loaded.context))
    done = list(encoded)
    for places in parts(encoded, len(loaded.tokenizer)):
        for place, targets in zip(places, _present(loaded, [encoded[place] for place in places]), strict=True):
            done[place] = replace(encoded[place], targets=targets, weight=weight)
    return done


def _present(loaded: LoadedModel, rows: Sequence[Encoded]) -> Iterator[Targets]:
    """Read off the likeliest tokens at each trained token, and their probabilities."""
    from nbtune.training.step_runner import trained_logits

    batch = on_device(collate(list(rows), loaded.tokenizer.pad_token_id), loaded.model.device)
    with torch.inference_mode():
        probabilities, tokens = torch.softmax(trained_logits(loaded.model, batch).float(), dim=-1).topk(_LIKELIEST)
    probabilities = probabilities / probabilities.sum(-1, keepdim=True)
    lengths = [row.trained for row in rows]
    return map(Targets, torch.split(tokens.cpu().clone(), lengths), torch.split(probabilities.cpu().clone(), lengths))
