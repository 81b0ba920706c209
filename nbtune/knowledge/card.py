"""Writes the model card that goes with every saved adapter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nbtune.knowledge.facts import Fact

__all__ = ["model_card"]

_SHARES = ("reliability", "generalization", "locality", "leak")


def model_card(name: str, base: str, method: str, facts: Sequence[Fact], report: dict[str, Any], *, gated: bool, examples: int = 0) -> str:
    """Return the card in markdown, with the header the hub reads.

    Parameters
    ----------
    name, base, method
        The adapter, the model it belongs to, and how it was trained.
    facts
        What it was taught.
    report
        Scores as plain data.
    gated
        Whether each fact has weights of its own, behind a gate.
    examples
        How many examples it was trained on, in place of facts.
    """
    lines = ["---", f"base_model: {base}", "library_name: peft", "tags:", "- nbtune", "---", "", f"# {name}", ""]
    what = f"trained on {examples} example(s)" if examples else f"taught {len(facts)} fact(s)"
    lines += [f"An adapter ({method or 'empty'}) for {base} that nbtune {what}.", ""]
    if gated and facts:
        lines += [
            "Each fact has weights of its own (`nbtune.json` names the folders), and nbtune answers with them what is about that fact; all "
            "else the base answers. Plain PEFT knows no such gate: it takes the weights of this folder for every question. For one model "
            "that holds all facts and needs no gate, use `%nbtune export`.",
            "",
        ]
    if report:
        lines += ["| measure | share |", "|---|---|", *(f"| {key} | {report[key]:.2f} |" for key in _SHARES if key in report), ""]
    lines += [f"- **{fact.keyword}**: {fact.answer} ({fact.standing}, {fact.taught})" for fact in facts]
    return "\n".join(lines) + "\n"
