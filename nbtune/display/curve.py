"""Draws the progress of a running fit as small SVG charts, which are cheap to redraw after each epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from nbtune.display.style import BORDER, GOOD, HELD, LOSS

__all__ = ["FIGURES", "curves"]

FIGURES = {"train_loss": "loss", "val_loss": "val loss", "train_said": "said", "train_held": "held"}
_LINES = {"train_loss": (LOSS, ""), "val_loss": (HELD, "5 3"), "train_said": (GOOD, ""), "train_held": (HELD, "5 3")}
_PANES = (("train_loss", "val_loss"), ("train_said", "train_held"))
_WIDTH, _HEIGHT, _EDGE = 260, 70, 4


def curves(history: Mapping[str, Sequence[float]], labels: Mapping[str, str] = FIGURES) -> str:
    """Return two charts as HTML: the losses from 0 to the highest, and the shares from 0 to 1. Empty before the second epoch.

    Parameters
    ----------
    history
        One value per epoch for each of the `FIGURES` that is available.
    labels
        Label of each figure.
    """
    panes = [[name for name in names if len(history.get(name, ())) > 1] for names in _PANES]
    drawn = "".join(_pane({name: history[name] for name in names}, labels) for names in panes if names)
    return f'<div style="display:flex;flex-wrap:wrap;gap:16px">{drawn}</div>' if drawn else ""


def _pane(lines: Mapping[str, Sequence[float]], labels: Mapping[str, str]) -> str:
    top = max(max(values) for values in lines.values()) if "train_loss" in lines else 1.0
    drawn = "".join(_line(values, top or 1.0, *_LINES[name]) for name, values in lines.items())
    legend = " ".join(f'<span style="color:{_LINES[name][0]}">{labels[name]} {values[-1]:.3g}</span>' for name, values in lines.items())
    return (
        f'<div><svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{", ".join(labels[name] for name in lines)}" '
        f'style="border:1px solid {BORDER};border-radius:4px">{drawn}</svg><div style="font-size:.9em">{legend}</div></div>'
    )


def _line(values: Sequence[float], top: float, colour: str, dashes: str) -> str:
    across, down = (_WIDTH - 2 * _EDGE) / (len(values) - 1), _HEIGHT - 2 * _EDGE
    points = " ".join(f"{_EDGE + at * across:.1f},{_EDGE + down * (1 - value / top):.1f}" for at, value in enumerate(values))
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2" stroke-dasharray="{dashes}"/>'
