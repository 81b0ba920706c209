"""Answers a data set with the base and with the adapter in use, and scores both."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nbtune.data.examples import Examples
from nbtune.errors import NbtuneError
from nbtune.knowledge.asking import answer
from nbtune.knowledge.metrics import chrf, scores
from nbtune.knowledge.observer import Observer
from nbtune.model.adapters import AdapterHost
from nbtune.model.generation import prompt_length
from nbtune.model.loading import LoadedModel
from nbtune.model.prefixed import virtual_tokens
from nbtune.model.sampling import Sampling
from nbtune.paths import atomic_file, check_writable, given_path

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Evaluation", "check_target", "evaluate", "save_predictions"]

BASE, TUNED = "base", "tuned"  # fixed columns, since an adapter's name could equal that of another column
_ENDINGS = (".csv", ".jsonl")


@dataclass(frozen=True)
class Evaluation:
    """Replies to a data set, with their scores.

    Parameters
    ----------
    predictions
        One row per example: prompt, expected, base, tuned (if an adapter is in use), and the chrF of the last of these replies.
    scores
        One row per metric of `nbtune.knowledge.metrics.METRICS`, from 0 to 100; columns base and, if an adapter is in use, tuned.
    adapter
        Name of the adapter; None if only the base was asked.
    seconds
        Total time.
    skipped
        Number of rows left out because they can't be used.
    """

    predictions: pd.DataFrame
    scores: pd.DataFrame
    adapter: str | None
    seconds: float
    skipped: int = 0

    def worst(self, count: int) -> pd.DataFrame:
        """Return the `count` examples with the lowest chrF."""
        return self.predictions.nsmallest(count, "chrF")


def evaluate(
    host: AdapterHost, loaded: LoadedModel, examples: Examples, adapter: str | None, max_new_tokens: int, observer: Observer
) -> Evaluation:
    """Answer the last turn of each conversation greedily, and return the scored replies.

    Parameters
    ----------
    host, loaded
        The model.
    examples
        Conversations, each from a question to the wanted answer.
    adapter
        Name of the adapter in use, if any.
    max_new_tokens
        Length limit of a reply in tokens.
    observer
        Notified of each reply.

    Raises
    ------
    NbtuneError
        When a question leaves no room for a reply, or a package for the scores is missing.
    """
    import pandas as pd

    started = time.perf_counter()
    chats, expected = zip(*((chat[:-1], chat[-1]["content"]) for chat in examples.conversations), strict=True)
    room = loaded.context - virtual_tokens(host.net)
    for number, chat in zip(examples.numbers, chats, strict=True):
        if (length := prompt_length(loaded.tokenizer, chat)) >= room:
            most = f"the model reads at most {room}, its reply included"
            raise NbtuneError(f"Row {number} takes {length} tokens and {most}: shorten it, or leave it out.")
    said, sampling = {}, Sampling(max_new_tokens=max_new_tokens)
    observer.stage("answering, base", len(chats))
    with host.answering(None):
        said[BASE] = answer(host, loaded, chats, sampling, observer)
    if adapter is not None:
        observer.stage(f"answering, {adapter}", len(chats))
        said[TUNED] = answer(host, loaded, chats, sampling, observer)
    last = said.get(TUNED, said[BASE])
    predictions = pd.DataFrame({"prompt": [chat[-1]["content"] for chat in chats], "expected": expected, **said})
    predictions["chrF"] = [chrf(one, other) for one, other in zip(last, expected, strict=True)]
    table = pd.DataFrame({way: scores(replies, expected) for way, replies in said.items()})
    return Evaluation(predictions, table, adapter, time.perf_counter() - started, len(examples.bad))


def save_predictions(evaluation: Evaluation, path: str | Path) -> Path:
    """Write the predictions to a CSV or JSON lines file and return its path.

    Raises
    ------
    NbtuneError
        When the name has another ending, or the file can't be written.
    """
    target = check_target(path)
    with atomic_file(target) as file:
        if target.suffix.lower() == ".csv":
            evaluation.predictions.to_csv(file, index=False, encoding="utf-8")
        else:
            evaluation.predictions.to_json(file, orient="records", lines=True, force_ascii=False)
    return target


def check_target(path: str | Path) -> Path:
    """Return the path of a predictions file, after checking it before any work.

    Raises
    ------
    NbtuneError
        When the name does not end in ``.csv`` or ``.jsonl``, is that of a folder, or its folder is missing or not writable.
    """
    target = given_path(path)
    if target.suffix.lower() not in _ENDINGS:
        raise NbtuneError(f"{target} can't hold predictions: give a name that ends in {' or '.join(_ENDINGS)}.")
    check_writable(target.parent)
    if not target.parent.is_dir():
        raise NbtuneError(f"There is no folder {target.parent} to write {target.name} to: create it first.")
    if target.is_dir():
        raise NbtuneError(f"{target} is a folder: give the name of a file.")
    return target
