"""Scores the built-in model by greedy generation: ``python -m nbtune.tiny.evaluate``.

The names, and the combinations of a name and a wording, were never trained; in the second column of
the table, the wordings were never trained either.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from tqdm.auto import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerFast

from nbtune.tiny import WEIGHTS
from nbtune.tiny.card import write_card
from nbtune.tiny.corpus import Corpus, Exchange, Message
from nbtune.tiny.text import LANGUAGES

__all__ = ["Row", "answer", "evaluate", "main", "table"]

_BATCH = 50


@dataclass(frozen=True)
class Row:
    """A row of the table: shares between 0 and 1, and their goals, which are upper limits if `at_most` is set."""

    name: str
    trained: float
    heldout: float
    goal_trained: float | None
    goal_heldout: float | None
    at_most: bool = False


@dataclass(frozen=True)
class _Case:
    history: list[Message]
    prompt: str
    reply: str


def answer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, chats: list[list[Message]], limit: int = 64) -> list[str]:
    """Reply greedily to each chat.

    Parameters
    ----------
    model, tokenizer
        A causal language model and its tokenizer, which has a chat template and pads on the left.
    chats
        Messages of each chat; the last one is the user's.
    limit
        Most new tokens.

    Returns
    -------
    list of str
        One reply per chat, in order.
    """
    order = sorted(range(len(chats)), key=lambda i: len(str(chats[i])))
    replies = [""] * len(chats)
    for at in range(0, len(order), _BATCH):
        chosen = order[at : at + _BATCH]
        inputs = tokenizer.apply_chat_template(
            [chats[i] for i in chosen], add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        ).to(model.device)
        with torch.inference_mode():
            output = model.generate(**inputs, max_new_tokens=limit, do_sample=False)
        texts = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        for i, text in zip(chosen, texts, strict=True):
            replies[i] = text
    return replies


def _single(exchange: Exchange) -> _Case:
    return _Case([], exchange.prompt, exchange.reply)


def _later(corpus: Corpus, rng: random.Random, language: str, heldout: bool) -> _Case:
    first, asked = corpus.told(rng, language, heldout=heldout, fresh=not heldout)
    between = rng.choice((corpus.talk, corpus.statement, corpus.thing, corpus.unknown))(rng, language, heldout=heldout)
    return _Case([*first.messages(), *between.messages()], asked.prompt, asked.reply)


def _cases(corpus: Corpus, count: int, seed: int, heldout: bool) -> dict[str, list[_Case]]:
    rng = random.Random(f"evaluate-{seed}-{heldout}")
    kept = {"heldout": heldout, "fresh": not heldout}

    def draw(make: Callable[[str], _Case]) -> list[_Case]:
        """Draw `count` cases of a kind in each language."""
        return [make(language) for language in LANGUAGES for _ in range(count)]

    cases = {
        "known things": draw(lambda lang: _single(corpus.thing(rng, lang, **kept))),
        "known relations": draw(lambda lang: _single(corpus.relation(rng, lang, **kept))),
        "forms": draw(lambda lang: _single(corpus.form(rng, lang, **kept))),
        "told": draw(lambda lang: _later(corpus, rng, lang, heldout)),
        "sums": draw(lambda lang: _single(corpus.arithmetic(rng, lang, **kept))),
        "statements": draw(lambda lang: _single(corpus.statement(rng, lang, heldout=heldout))),
        "talk": draw(lambda lang: _single(corpus.talk(rng, lang, heldout=heldout))),
    }
    for script in ("zh", "en", "mixed"):
        cases[f"unknown {script}"] = draw(partial(_unknown, corpus, rng, script, heldout))
    return cases


def _unknown(corpus: Corpus, rng: random.Random, script: str, heldout: bool, language: str) -> _Case:
    return _single(corpus.unknown(rng, language, script=script, heldout=heldout, fresh=not heldout))


def _column(corpus: Corpus, replies: dict[str, list[str]], cases: dict[str, list[_Case]]) -> dict[str, float]:
    """Return the shares in one column of the table, computed from the replies."""
    parts = {lang: text.unknown.split("{x}") for lang, text in corpus.texts.items()}
    social = {text.noted for text in corpus.texts.values()} | {i.reply for t in corpus.texts.values() for i in t.talk}

    def exact(*kinds: str) -> float:
        """Return the share of replies that match as a whole."""
        hits = [r == c.reply for kind in kinds for r, c in zip(replies[kind], cases[kind], strict=True)]
        return sum(hits) / len(hits)

    def admits(reply: str) -> bool:
        """Return whether a reply admits that something is not known."""
        return any(reply.startswith(head) and reply.endswith(tail) for head, tail in parts.values())

    unknown = [kind for kind in cases if kind.startswith("unknown")]
    asked = [reply in social for kind in (*unknown, "known things", "told") for reply in replies[kind]]
    said = [reply not in social for kind in ("statements", "talk") for reply in replies[kind]]
    admitted = [admits(reply) for kind in unknown for reply in replies[kind]]
    return {
        "known facts answered exactly": exact("known things", "known relations"),
        "... and asked in reverse, for yes or no, or for one aspect": exact("forms"),
        "unknown things admitted": sum(admitted) / len(admitted),
        "... and named exactly": exact(*unknown),
        "a fact told two turns earlier, used": exact("told"),
        "sums up to 20": exact("sums"),
        "statement taken for a question, or the reverse": sum(asked + said) / len(asked + said),
    }


_GOALS: dict[str, tuple[float | None, float | None]] = {
    "known facts answered exactly": (0.98, 0.92),
    "... and asked in reverse, for yes or no, or for one aspect": (None, None),
    "unknown things admitted": (0.99, 0.97),
    "... and named exactly": (0.97, 0.92),
    "a fact told two turns earlier, used": (0.95, 0.90),
    "sums up to 20": (0.98, 0.95),
    "statement taken for a question, or the reverse": (0.01, 0.03),
}


def evaluate(folder: Path = WEIGHTS, count: int = 150, seed: int = 0, misses: Path | None = None) -> list[Row]:
    """Score a model, and return the rows of the table.

    Parameters
    ----------
    folder
        Folder of the model.
    count
        Number of questions of each kind, language and column.
    seed
        Seed for drawing the questions.
    misses
        File for all replies that were not as expected, as JSON lines. Default: none is written.
    """
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    corpus, columns, wrong = Corpus(), [], []
    with tqdm(total=20, unit="set") as progress:
        for heldout in (False, True):
            cases = _cases(corpus, count, seed, heldout)
            replies = {}
            for kind, several in cases.items():
                chats = [[*case.history, {"role": "user", "content": case.prompt}] for case in several]
                replies[kind] = answer(model, tokenizer, chats)
                progress.update()
                wrong += [
                    {"kind": kind, "heldout": heldout, "prompt": c.prompt, "reply": r, "expected": c.reply}
                    for c, r in zip(several, replies[kind], strict=True)
                    if r != c.reply
                ]
            columns.append(_column(corpus, replies, cases))
    if misses:
        misses.write_text("".join(json.dumps(w, ensure_ascii=False) + "\n" for w in wrong), encoding="utf-8")
    return [Row(name, columns[0][name], columns[1][name], *goals, at_most=name.startswith("statement")) for name, goals in _GOALS.items()]


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table, with each share beside its goal."""
    lines = ["| on names and combinations never trained | trained wordings | goal | held-out wordings | goal |", "|---|---|---|---|---|"]
    for row in rows:
        sign = "≤" if row.at_most else "≥"
        goals = ["" if goal is None else f"{sign} {goal}" for goal in (row.goal_trained, row.goal_heldout)]
        lines.append(f"| {row.name} | {row.trained:.3f} | {goals[0]} | {row.heldout:.3f} | {goals[1]} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m nbtune.tiny.evaluate", description=__doc__)
    parser.add_argument("--model", type=Path, default=WEIGHTS, help="folder of the model (default: the shipped one)")
    parser.add_argument("--count", type=int, default=150, help="questions of each kind, language and column")
    parser.add_argument("--seed", type=int, default=0, help="seed of the questions (default: %(default)s)")
    parser.add_argument("--misses", type=Path, help="write every unexpected reply to this file (JSON lines)")
    parser.add_argument("--card", action="store_true", help="also write the model card beside the weights")
    options = parser.parse_args(arguments)
    rows = evaluate(options.model, options.count, options.seed, options.misses)
    print(table(rows))
    if options.card:
        write_card(options.model, table(rows))


if __name__ == "__main__":
    main()
