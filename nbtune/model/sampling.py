"""Defines how the tokens of a reply are chosen, and what ends it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from nbtune.checks import check_range, number, whole_number
from nbtune.errors import NbtuneError

__all__ = ["DEFAULT_NEW_TOKENS", "Sampling", "before_stop", "seeded"]

DEFAULT_NEW_TOKENS = 512


@dataclass(frozen=True)
class Sampling:
    """Options for how the tokens of a reply are chosen, and what ends it.

    Parameters
    ----------
    max_new_tokens
        Length limit of the reply in tokens. Default: the room left in the context, at most 512.
    temperature
        0 to 100; 0 is greedy and takes the likeliest token. Default: 0.
    top_p
        Sample from the likeliest tokens whose probabilities add up to this value, above 0 and up to 1. Default: 1.
    repetition_penalty
        Above 0, up to 100; above 1 makes tokens that were already used less likely. Default: 1.
    seed
        Makes sampling repeatable. Default: none.
    stop
        Texts that end the reply and are not part of it. Default: none.

    Raises
    ------
    NbtuneError
        When a value is out of range, or has no effect in combination with the others.
    """

    max_new_tokens: int | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    stop: str | Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in ("max_new_tokens", "seed"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, whole_number(name, getattr(self, name)))
        for name in ("temperature", "top_p", "repetition_penalty"):
            object.__setattr__(self, name, number(name, getattr(self, name)))
        object.__setattr__(self, "stop", (self.stop,) if isinstance(self.stop, str) else tuple(self.stop))
        checks = (
            ("--max-new-tokens", self.max_new_tokens, self.max_new_tokens is None or self.max_new_tokens >= 1, "1 or more"),
            ("--temperature", self.temperature, 0 <= self.temperature <= 100, "between 0 and 100"),
            ("--seed", self.seed, self.seed is None or abs(self.seed) < 2**63, "a 64-bit whole number"),
            ("--top-p", self.top_p, 0 < self.top_p <= 1, "above 0, up to 1"),
            ("--repetition-penalty", self.repetition_penalty, 0 < self.repetition_penalty <= 100, "above 0, up to 100"),
        )
        if not all(isinstance(one, str) and one for one in self.stop):
            raise NbtuneError(f"--stop {self.stop!r}: expected text that is not empty.")
        for option, value, good, expected in checks:
            check_range(option, value, good, expected)
        unused = "--top-p" if self.top_p < 1 else "--seed" if self.seed is not None else None
        if self.temperature == 0 and unused:
            raise NbtuneError(
                f"{unused} affects only sampled replies, and nothing is sampled at --temperature 0: use --temperature 0.7, say."
            )

    @property
    def greedy(self) -> bool:
        """Whether the token that the model finds likeliest is always chosen."""
        return self.temperature == 0 and self.repetition_penalty == 1

    def limit(self, room: int) -> int:
        """Return the most tokens that a reply may have, given the room left in the context."""
        return min(self.max_new_tokens or DEFAULT_NEW_TOKENS, room)

    def arguments(self, limit: int, tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
        """Return the arguments for transformers' ``generate``, given the most tokens that the reply may have."""
        chosen: dict[str, Any] = {"max_new_tokens": limit}
        if self.temperature > 0:
            chosen |= {"do_sample": True, "temperature": float(self.temperature), "top_p": self.top_p, "top_k": 0}
        else:
            chosen["do_sample"] = False
        if self.repetition_penalty != 1:
            chosen["repetition_penalty"] = float(self.repetition_penalty)  # transformers refuses whole numbers
        if self.stop:
            chosen |= {"stop_strings": list(self.stop), "tokenizer": tokenizer}
        return chosen


def before_stop(text: str, stop: Sequence[str]) -> str:
    """Return a text up to the first of the stop texts in it, or all of it."""
    return text[: min((text.find(one) for one in stop if one in text), default=len(text))]


@contextmanager
def seeded(seed: int | None, device: torch.device) -> Iterator[None]:
    """Seed random numbers inside the block, and restore the notebook's own random state afterwards; without a seed, do nothing.

    The states of the CPU and of the given GPU are restored; torch seeds other devices, too.
    """
    if seed is None:
        yield
        return
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
