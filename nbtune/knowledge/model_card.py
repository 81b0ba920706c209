"""Makes the model card for saved adapters and exports."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nbtune.knowledge.version import Version

__all__ = ["model_card"]

_HUB_ID = re.compile(r"\w[\w.-]*/[\w.-]+")
_LIBRARIES = {"peft": ["library_name: peft"], "transformers": ["library_name: transformers"], "gguf": []}
_SHARES = ("reliability", "generalization", "locality", "leak")


def model_card(name: str, version: Version, kind: str = "peft") -> str:
    """Return the card in Markdown, with the metadata header that the hub reads.

    Parameters
    ----------
    name
        Name of the adapter.
    version
        The version to describe: its facts or examples, its base and its scores.
    kind
        Kind of files that the card describes; see `nbtune.knowledge.exporting.Export`.
    """
    base, method, facts, report = version.base, version.method or "empty", version.facts, version.report
    # The hub accepts only a base that is on the hub, not a local folder.
    origin = [f"base_model: {base}"] if _HUB_ID.fullmatch(base) and not Path(base).exists() else []
    lines = ["---", *origin, *_LIBRARIES[kind], "tags:", "- nbtune", "---", "", f"# {name}", ""]
    learned = f"trained on {version.examples} example(s)" if version.examples else f"taught {len(facts)} fact(s)"
    what = f"An adapter ({method}) for {base} that" if kind == "peft" else f"The model {base} with an adapter ({method}) merged in, which"
    lines += [f"{what} nbtune {learned}.", ""]
    if version.gated and facts:
        lines += [
            "Each fact has its own weights (`nbtune.json` lists the folders), which nbtune uses for questions about that fact; all others "
            "go to the base. Plain PEFT has no such gate: it uses the weights in this folder for every question. For one model that holds "
            "all facts and needs no gate, use `%nbtune export`.",
            "",
        ]
    if report:
        lines += ["| measure | share |", "|---|---|", *(f"| {key} | {report[key]:.2f} |" for key in _SHARES if key in report), ""]
    lines += [f"- **{fact.keyword}**: {fact.answer} ({fact.standing}, {fact.taught})" for fact in facts]
    return "\n".join(lines) + "\n"
