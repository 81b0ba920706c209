"""Draws training examples token by token, showing which tokens are trained and which are only read."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING

from nbtune.display.shown import Shown
from nbtune.display.style import GOOD, SPECIAL, UNTRAINED

if TYPE_CHECKING:
    from nbtune.data.encoding import Example

__all__ = ["token_view"]

_SHOWN = 40


def token_view(examples: Sequence[Example]) -> Shown:
    """Return examples drawn on one line each; in plain text, trained tokens are in brackets.

    Parameters
    ----------
    examples
        Examples, as returned by `nbtune.LanguageModel.tokens`.
    """
    trained = sum(is_trained for example in examples for _, is_trained, _ in example)
    total = sum(len(example) for example in examples)
    more = f"; the first {_SHOWN} are shown" if len(examples) > _SHOWN else ""
    title = f"{len(examples)} examples, {trained} of {total} tokens trained{more}"
    shown = examples[:_SHOWN]
    lines = [title, *("".join(f"[{text}]" if is_trained else text for text, is_trained, _ in example) for example in shown)]
    rows = "".join(
        f'<div style="margin:2px 0;white-space:pre-wrap;overflow-wrap:anywhere">{"".join(_token(*token) for token in example)}</div>'
        for example in shown
    )
    legend = " ".join(
        _token(text, *kind) for text, kind in (("trained", (True, False)), ("read", (False, False)), ("special", (False, True)))
    )
    html = f'<div style="max-width:60em"><div>{escape(title)} · {legend}</div><div style="font-size:.9em">{rows}</div></div>'
    return Shown("\n".join(lines), html)


def _token(text: str, is_trained: bool, is_special: bool) -> str:
    colour = SPECIAL if is_special else GOOD if is_trained else UNTRAINED
    line = f"border-bottom:2px solid {colour};" if is_trained else ""
    shown = escape(text).replace("\n", "\u21b5\n")
    return f'<span style="color:{colour};{line}margin-right:1px">{shown}</span>' if text else ""
