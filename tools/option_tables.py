"""Builds the tables of options, commands and settings from the help texts in the code."""

from __future__ import annotations

import re
from argparse import Action
from collections.abc import Callable, Iterable
from html import escape
from typing import Any

from nbtune.magics.chat import ChatMagics
from nbtune.magics.finetune import FinetuneMagics
from nbtune.magics.nbtune import COMMANDS, NbtuneMagics
from nbtune.session import Nbtune

_COMMANDS = ("model", "data", "evaluate", "facts", "export", "push")  # commands with options


def option_tables() -> dict[str, str]:
    """Return the tables by the names of their placeholders: ``options chat``, ``options finetune examples``, ``commands``, ..."""
    magics = {
        "chat": ChatMagics.chat,
        "finetune": FinetuneMagics.finetune,
        **{f"nbtune {name}": getattr(NbtuneMagics, f"_{name}") for name in _COMMANDS},
    }
    tables = {f"options {name}{group}": table for name, magic in magics.items() for group, table in _groups(magic)}
    return {**tables, "commands": _table("command", map(_command, COMMANDS.items())), "config": _table("setting", _settings())}


def _groups(magic: Callable[..., Any]) -> Iterable[tuple[str, str]]:
    """Yield a table for each group of a magic's options, after the suffix of its placeholder's name."""
    for group in magic.parser._action_groups:  # type: ignore[attr-defined] # argparse has no public list of groups
        options = [action for action in group._group_actions if action.option_strings]
        if options:
            named = group.title not in ("options", "optional arguments")
            yield f" {group.title}" if named else "", _table("option", map(_option, options))


def _option(action: Action) -> tuple[str, str]:
    value = f" {action.metavar}" if action.metavar else ""
    return ", ".join(f"`{name}{value}`" for name in action.option_strings), str(action.help)


def _command(entry: tuple[str, str]) -> tuple[str, str]:
    name, text = entry
    usage, colon, meaning = text.partition(": ")
    return f"`%nbtune {name} {usage}`" if colon else f"`%nbtune {name}`", meaning or text


def _settings() -> Iterable[tuple[str, str]]:
    for name, trait in Nbtune.class_own_traits(config=True).items():
        yield f"`Nbtune.{name}`", f"{trait.help} Default: `{trait.default_value!r}`."


def _table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {title} | meaning |", "|---|---|"]
    for row in rows:
        left, right = (re.sub("`([^`]*[|][^`]*)`", _code, cell) for cell in row)
        lines.append(f"| {left} | {right} |")
    return "\n".join(lines)


def _code(piped: re.Match[str]) -> str:
    """Return code with a pipe as HTML.

    GitHub wants a pipe escaped in a table, but MkDocs would show the backslash; MkDocs also takes brackets for links.
    """
    code = escape(piped[1], quote=False)
    return f"<code>{code.translate({ord(mark): f'&#{ord(mark)};' for mark in '|[]'})}</code>"
