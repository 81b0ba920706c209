"""Draws a conversation as chat bubbles, the user's on the right and the model's on the left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from nbtune.display.shown import Shown
from nbtune.display.style import BUBBLE, MUTED, OWN_BUBBLE

__all__ = ["Bubble", "transcript"]

_TEXT = "white-space:pre-wrap;overflow-wrap:anywhere;line-height:1.45"


@dataclass(frozen=True)
class Bubble:
    """One message of a conversation.

    Parameters
    ----------
    text
        The message, shown as typed: markup in it is escaped.
    own
        Whether the user wrote it.
    name
        The speaker, where this is not obvious.
    note
        A remark below the message, such as that it was cut short.
    beside
        Whether to show it next to the previous bubble, for comparison.
    """

    text: str
    own: bool = False
    name: str = ""
    note: str = ""
    beside: bool = False


def transcript(bubbles: Sequence[Bubble], empty: str) -> Shown:
    """Return a conversation drawn as bubbles.

    Parameters
    ----------
    bubbles
        The messages, oldest first.
    empty
        Text to show when there are no messages.
    """
    if not bubbles:
        return Shown(empty, f'<div style="{MUTED};padding:1em">{escape(empty)}</div>')
    rows: list[list[Bubble]] = []
    for bubble in bubbles:
        if bubble.beside and rows:
            rows[-1].append(bubble)
        else:
            rows.append([bubble])
    lines = [f"{bubble.name or ('you' if bubble.own else 'model')}: {_noted(bubble)}" for bubble in bubbles]
    return Shown("\n".join(lines), "".join(_row(row) for row in rows))


def _noted(bubble: Bubble) -> str:
    return f"{bubble.text} [{bubble.note}]" if bubble.note else bubble.text


def _row(bubbles: Sequence[Bubble]) -> str:
    side = "flex-end" if bubbles[0].own else "flex-start"
    inner = "".join(_bubble(bubble, shared=len(bubbles) > 1) for bubble in bubbles)
    return f'<div style="display:flex;flex-wrap:wrap;gap:8px;justify-content:{side};margin:6px 4px">{inner}</div>'


def _bubble(bubble: Bubble, *, shared: bool) -> str:
    width = "flex:1 1 14em" if shared else "max-width:80%"
    shade = OWN_BUBBLE if bubble.own else BUBBLE
    name = f'<div style="{MUTED}">{escape(bubble.name)}</div>' if bubble.name else ""
    note = f'<div style="{MUTED};font-style:italic">{escape(bubble.note)}</div>' if bubble.note else ""
    return (
        f'<div style="{width};box-sizing:border-box;padding:6px 12px;border-radius:12px;background:{shade}">'
        f'{name}<div style="{_TEXT}">{escape(bubble.text)}</div>{note}</div>'
    )
