"""Draws the report card of a finetune: the scores, and the model's replies before and after."""

from __future__ import annotations

import math
from html import escape
from typing import TYPE_CHECKING

from nbtune.display.figures import embedded
from nbtune.display.shown import Shown, counted
from nbtune.display.style import BAD, GOOD, HELD, LOSS, MUTED

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from nbtune.knowledge.result import Result
    from nbtune.knowledge.scoring import Asked

__all__ = ["report_card"]

_TITLES = {
    "trained": "trained prompts",
    "held-out": "held-out phrasings",
    "portability": "in another form (reverse, yes or no, one aspect)",
    "near miss": "near misses (must stay)",
    "unrelated": "unrelated (must stay)",
    "retained": "yours (must stay)",
}
_SHOWN_PER_KIND = 60
_A_LINE = 4  # scores that fit on a line of 80 columns


def report_card(result: Result) -> Shown:
    """Return the outcome of a finetune drawn as a card.

    Parameters
    ----------
    result
        The outcome. If a fact was not learned, the card has another colour; without a version it says that nothing was changed.
    """
    report = result.report
    title = _title(result)
    where = f"adapter {result.adapter}, version {result.version}" if result.version else "nothing was changed"
    figures = [
        ("reliability", report.reliability),
        ("generalization", report.generalization),
        ("portability", report.portability),
        ("locality", report.locality),
        ("near misses", report.near_misses),
        ("unrelated", report.unrelated),
        ("leak", report.leak),
    ]
    fitted = f" · {report.steps} steps · {report.adapter_bytes / 1e6:.2f} MB" if report.steps else ""
    figures = [(name, value) for name, value in figures if not math.isnan(value)]  # leave out scores for which nothing was asked
    cost = f"{report.seconds:.1f} s{fitted} · {' · '.join((*result.notes, where))}"
    first = next((asked for asked in report.asked if asked.kind == "trained"), None)
    said = [f"{name} {value:.2f}" for name, value in figures]
    lines = [title, *("  ".join(part) for part in (said[:_A_LINE], said[_A_LINE:]) if part), cost]
    if first:
        lines += [f"asked:  {first.prompt}", f"before: {first.before}", f"after:  {first.after}"]
    lines += _rewordings(result)
    return Shown("\n".join(lines), _html(title, figures, cost, first, result))


def _title(result: Result) -> str:
    if result.examples:
        return f"✔ trained on {counted(result.examples, 'example')}"
    names = ", ".join(fact.keyword for fact in result.facts[:3]) + (" …" if len(result.facts) > 3 else "")
    good, bad = ("learned", "not learned") if result.history is not None else ("holds", "does not hold")
    return f"✔ {good}: {names}" if result.learned else f"✘ {bad}: {names}"


def _html(title: str, figures: list[tuple[str, float]], cost: str, first: Asked | None, result: Result) -> str:
    colour = GOOD if result.learned else BAD
    cells = "".join(
        f'<div style="margin:0 1.4em 0.4em 0"><div style="opacity:.7;font-size:.85em">{escape(name)}</div>'
        f'<div style="font-size:1.3em;font-variant-numeric:tabular-nums">{value:.2f}</div></div>'
        for name, value in figures
    )
    words = ""
    if first:
        words = (
            f'<div style="margin:.5em 0"><div style="opacity:.7">{escape(first.prompt)}</div>'
            f"<div>before: {escape(first.before)}</div>"
            f'<div>after: <span style="border-bottom:2px solid {colour}">{escape(first.after)}</span></div></div>'
        )
    folded = "".join(_replies(kind, [a for a in result.report.asked if a.kind == kind]) for kind in _TITLES)
    own = "".join(f'<div style="{MUTED};white-space:pre-wrap">{escape(line)}</div>' for line in _rewordings(result))
    return (
        f'<div style="border-left:4px solid {colour};padding:.4em 1em;max-width:60em">'
        f'<div style="font-weight:bold;color:{colour}">{escape(title)}</div>'
        f'<div style="display:flex;flex-wrap:wrap;margin-top:.5em">{cells}</div>'
        f'<div style="{MUTED}">{escape(cost)}</div>{words}{_curve(result.history)}{folded}{own}</div>'
    )


def _rewordings(result: Result) -> list[str]:
    """Return lines that list the trained wordings that the model wrote itself."""
    return [
        f"the model's own wordings of {keyword}: {len(written.kept)} kept, {written.dropped} dropped"
        + "".join(f"\n  {wording}" for wording in written.kept)
        for keyword, written in result.rewordings.items()
    ]


def _replies(kind: str, asked: list[Asked]) -> str:
    """Return the replies of one kind as a folded table, wrong ones first and marked."""
    if not asked:
        return ""
    right = sum(a.right for a in asked)
    rows = "".join(_row(a) for a in sorted(asked, key=lambda a: a.right)[:_SHOWN_PER_KIND])
    return (
        f'<details style="margin-top:.3em"><summary>{escape(_TITLES[kind])}: {right} of {len(asked)} right</summary>'
        f'<table style="font-size:.9em"><tr><th></th><th style="text-align:left">asked</th>'
        f'<th style="text-align:left">before</th><th style="text-align:left">after</th></tr>{rows}</table></details>'
    )


def _row(asked: Asked) -> str:
    mark, colour = ("✔", GOOD) if asked.right else ("✘", BAD)
    style = "text-align:left;vertical-align:top;padding:2px 8px;white-space:pre-wrap"
    # A reply that changed is underlined, in the colour of right if it had to change and of wrong if it had to stay.
    changed = asked.before and asked.after != asked.before
    after = f'<span style="border-bottom:2px solid {colour}">{escape(asked.after)}</span>' if changed else escape(asked.after)
    cells = "".join(f'<td style="{style}">{text}</td>' for text in (escape(asked.prompt), escape(asked.before), after))
    return f'<tr><td style="color:{colour};vertical-align:top">{mark}</td>{cells}</tr>'


def _curve(history: pd.DataFrame | None) -> str:
    """Return a plot, by epoch, of the loss and of the shares of examples said and held."""
    if history is None or len(history) < 2:
        return ""
    from matplotlib.figure import Figure  # not pyplot, which would register the figure with the notebook

    figure = Figure(figsize=(6.4, 2.2), layout="constrained")
    left = figure.add_subplot()
    left.plot(history["epoch"], history["train_loss"], color=LOSS, label="loss")
    if "val_loss" in history:
        left.plot(history["epoch"], history["val_loss"], color=HELD, linestyle="--", label="val loss")
    left.locator_params(axis="x", integer=True)
    left.set_xlabel("epoch")
    left.set_ylabel("loss")
    if "train_said" in history:
        _shares(left, history)
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    return embedded(figure, "loss and shares by epoch")


def _shares(left: Axes, history: pd.DataFrame) -> None:
    right = left.twinx()
    for column, colour, style, label in (("train_said", GOOD, "-", "said"), ("train_held", HELD, "--", "held")):
        if column in history:
            right.plot(history["epoch"], history[column], color=colour, linestyle=style, label=label)
    right.set_ylim(0, 1.05)
    right.set_ylabel("share of examples")
