"""Teaches facts to an adapter: fits until the model says every one of them and nothing else changed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import pandas as pd
import torch

from nbtune.data.encoding import Batch, encode
from nbtune.errors import NbtuneError
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.lesson import PARTS, Lesson, retention_targets
from nbtune.knowledge.phrasing import surroundings
from nbtune.knowledge.scoring import same
from nbtune.knowledge.store import Version
from nbtune.model.adapters import AdapterHost
from nbtune.model.generation import Sampling, generate_batch
from nbtune.model.loading import LoadedModel

__all__ = ["Observer", "Settings", "ask", "check", "inject"]

_HELD = 0.995  # share of retained tokens that must still be the likeliest before a fit may end
_SHORTEST_LIMIT = 64
_NEAR_PER_FACT, _PROMPTS_PER_KNOWN_FACT = 144, 4


class Observer(Protocol):
    """Watches a finetune; `nbtune.display` has one that draws progress."""

    def stage(self, name: str, total: int) -> None:
        """Say that a stage of so many units begins."""

    def advance(self, log: dict[str, float] | None = None) -> None:
        """Say that one unit is done; a fit hands on the epoch's losses and metrics."""


@dataclass(frozen=True)
class Settings:
    """How to teach.

    Parameters
    ----------
    method
        A name of `nbtune.training.methods.METHODS`.
    epochs
        Most epochs; a fit ends as soon as the facts are said.
    learning_rate, rank
        Default: the method's.
    batch_size
        Fact examples per batch.
    retained_per_batch
        Examples of what must not change beside them.
    retention
        Weight of such an example beside a fact's.
    seed
        Seed of initial weights and order.
    """

    method: str = "lora"
    epochs: int = 60
    learning_rate: float | None = None
    rank: int | None = None
    batch_size: int = 12
    retained_per_batch: int = 32
    retention: float = 2.0
    seed: int = 0

    def __post_init__(self) -> None:
        checks = (
            ("--epochs", self.epochs, self.epochs >= 1, "1 or more"),
            ("--lr", self.learning_rate, self.learning_rate is None or 0 < self.learning_rate <= 1, "above 0, up to 1"),
            ("--rank", self.rank, self.rank is None or self.rank >= 1, "1 or more"),
            ("--batch-size", self.batch_size, self.batch_size >= 1, "1 or more"),
        )
        for option, value, good, expected in checks:
            if not good:
                raise NbtuneError(f"{option} {value} is out of range: expected {expected}.")


class _StopWhenSaid:
    """Ends the fit when the training pass has every answer right and free generation confirms it."""

    def __init__(self, host: AdapterHost, loaded: LoadedModel, facts: Sequence[Fact], known: Sequence[Fact], observer: Observer) -> None:
        self._host, self._loaded, self._observer = host, loaded, observer
        self._wanted = [(prompt, fact.answer) for fact in facts for prompt in fact.prompts]
        self._wanted += [(prompt, fact.answer) for fact in known for prompt in _replayed(fact)]

    def on_validation_epoch_end(self, model: Any) -> None:
        """torchkeras' hook at the end of an epoch."""
        log = {name: values[-1] for name, values in model.history.items()}
        self._observer.advance(log)
        if log["train_said"] == 1.0 and not log["train_held"] < _HELD:
            model.net.eval()
            model.stop_training = self._said()

    def _said(self) -> bool:
        prompts, answers = zip(*self._wanted, strict=True)
        return all(map(same, ask(self._host, self._loaded, prompts, answers), answers))


def ask(
    host: AdapterHost, loaded: LoadedModel, prompts: Sequence[str], answers: Sequence[str], observer: Observer | None = None
) -> list[str]:
    """Put each question by itself and return the greedy replies.

    A reply is cut well behind the longest of `answers`, the ones to be recognised, so that a talkative model
    costs no more than it can prove.
    """

    def count(replies: int) -> None:
        for _ in range(replies):
            if observer:
                observer.advance()

    return generate_batch(
        host.net,
        loaded.tokenizer,
        [[{"role": "user", "content": prompt}] for prompt in prompts],
        context=loaded.context,
        sampling=Sampling(max_new_tokens=reply_limit(loaded, answers)),
        on_batch=count,
    )


def reply_limit(loaded: LoadedModel, answers: Sequence[str]) -> int:
    """Return how many tokens a reply of the proof may take: half as many again as the longest answer, at least 64."""
    longest = max(len(loaded.tokenizer(answer)["input_ids"]) for answer in answers)
    return max(_SHORTEST_LIMIT, longest + longest // 2)


def inject(
    host: AdapterHost,
    loaded: LoadedModel,
    facts: Sequence[Fact],
    known: Sequence[Fact],
    settings: Settings,
    start: Version,
    observer: Observer,
) -> tuple[pd.DataFrame, int]:
    """Fit an adapter on the host, in place of the one that is there.

    Parameters
    ----------
    host, loaded
        The model; its active adapter is what the new one must agree with on everything else.
    facts
        What to teach.
    known
        What the adapter holds already, and keeps.
    settings
        How.
    start
        Where to go on from; without weights a new adapter begins, which changes nothing.
    observer
        Told of every stage and epoch.

    Returns
    -------
    tuple
        The history, one row per epoch, and the number of optimizer steps.
    """
    from nbtune.training.keras_model import KerasModel
    from nbtune.training.methods import find_method

    method = find_method(settings.method)
    lesson = _lesson(host, loaded, facts, known, settings, observer)
    torch.manual_seed(settings.seed)
    config = start.config or method.config(settings.rank or method.rank, settings.epochs * lesson.steps)
    host.attach(config, start.weights, trainable=True)
    net = host.net
    observer.stage("learning", settings.epochs)
    rate = settings.learning_rate or method.learning_rate
    trainable = [p for p in net.parameters() if p.requires_grad]
    model = KerasModel(
        net,
        metrics_dict={"said": _RightShare(retained=False), "held": _RightShare(retained=True)},
        optimizer=torch.optim.AdamW(trainable, lr=rate, weight_decay=0.0),
        **method.hooks(net),
    )
    history = model.fit(
        lesson,
        epochs=settings.epochs,
        patience=None,
        callbacks=[_StopWhenSaid(host, loaded, facts, known, observer)],
        gradient_accumulation_steps=PARTS,
    )
    return history, model.steps


def check(loaded: LoadedModel, facts: Sequence[Fact], settings: Settings) -> None:
    """Refuse what can't be taught, before any work.

    Raises
    ------
    NbtuneError
        For a method that does not exist, or a fact that is longer than the context.
    """
    from nbtune.training.methods import find_method

    find_method(settings.method)
    for fact in facts:
        for prompt in fact.prompts:
            encode(loaded.tokenizer, prompt, fact.answer, context=loaded.context)


def _lesson(
    host: AdapterHost, loaded: LoadedModel, facts: Sequence[Fact], known: Sequence[Fact], settings: Settings, observer: Observer
) -> Lesson:
    around = surroundings(
        [fact.keyword for fact in facts], probing=False, per_keyword=max(8, _NEAR_PER_FACT // math.isqrt(len(facts))), seed=settings.seed
    )
    replay = [prompt for fact in known for prompt in _replayed(fact)]
    questions = [*around.near, *around.unrelated, *replay]
    observer.stage("asking what must stay", len(questions))
    replies = ask(host, loaded, questions, [fact.answer for fact in (*facts, *known)], observer)
    retained = retention_targets(
        host.net,
        loaded.tokenizer,
        list(zip(questions, replies, strict=True)),
        lambda batch: _logits(host, batch),
        context=loaded.context,
        weight=settings.retention,
    )
    encoded = [encode(loaded.tokenizer, prompt, fact.answer, context=loaded.context) for fact in facts for prompt in fact.prompts]
    return Lesson(
        encoded,
        retained,
        pad=loaded.tokenizer.pad_token_id,
        batch_size=settings.batch_size,
        retained_per_batch=settings.retained_per_batch,
        seed=settings.seed,
    )


def _replayed(fact: Fact) -> tuple[str, ...]:
    """Return the prompts of a fact held already that go along when others are taught."""
    return fact.prompts[:: max(1, len(fact.prompts) // _PROMPTS_PER_KNOWN_FACT)]


def _logits(host: AdapterHost, batch: Batch) -> torch.Tensor:
    from nbtune.training.step_runner import trained_logits

    return trained_logits(host.net, batch)


class _RightShare(torch.nn.Module):
    """Metric: share of the facts' tokens, or of the retained ones, that are the likeliest; 1 where there are none."""

    def __init__(self, retained: bool) -> None:
        super().__init__()
        self._retained = retained
        self.reset()

    def forward(self, logits: torch.Tensor, batch: Batch) -> float:
        """Count one batch; the value is that of the epoch so far."""
        right = logits.argmax(-1) == batch["target_tokens"][:, 0]
        chosen = right[batch["retained"] == self._retained]
        self._right += int(chosen.sum())
        self._all += len(chosen)
        return self.compute()

    def compute(self) -> float:
        """Return the share since the last reset."""
        return self._right / self._all if self._all else 1.0

    def reset(self) -> None:
        """Begin a new epoch."""
        self._right = self._all = 0
