"""Completes the line of a magic with TAB: options, their values, commands, and the names of adapters and facts."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

from nbtune.errors import NbtuneError
from nbtune.magics.chat import ChatMagics
from nbtune.magics.finetune import FinetuneMagics
from nbtune.magics.nbtune import COMMANDS, PANELS, NbtuneMagics
from nbtune.magics.options import option_names, wants_value
from nbtune.session import Nbtune

__all__ = ["VALUES", "completer"]

# Copied here, because the original lists are in modules that import torch, and TAB must not wait for that.
VALUES = {
    "--method": ("lora", "dora", "rslora", "pissa", "qlora", "ia3", "adalora", "prefix", "p-tuning", "prompt", "freeze", "full"),
    "--recipe": ("default", "reference"),
    "--log-with": ("tensorboard", "trackio", "wandb"),
    "--turns": ("all", "last"),
    "--dtype": ("float32", "float16", "bfloat16"),
    "--quantize": ("int8", "nf4"),
    "--as": ("transformers", "peft", "gguf"),
}


def completer(session: Nbtune) -> Any:
    """Return a function for IPython's hook `complete_command`, which completes a line that begins with a magic."""

    def complete(_shell: Any, event: SimpleNamespace) -> list[str]:
        """Return the options of the magic on the line; after some options and commands, the values that fit there."""
        before = event.text_until_cursor
        words = before[: len(before) - len(event.symbol)].split()
        name = words[0].lstrip("%") if words else ""
        if words and words[-1] in VALUES:
            return list(VALUES[words[-1]])
        if words and words[-1] in ("--name", "--adapter"):
            return _adapters(session, none=words[-1] == "--adapter")
        if name == "chat":
            return _options(ChatMagics.chat, words)
        if name == "finetune":
            return _options(FinetuneMagics.finetune, words)
        return _after_command(session, words[1:])

    return complete


def _after_command(session: Nbtune, words: list[str]) -> list[str]:
    if not words:
        return list(COMMANDS)
    if words[0] in ("use", "undo", "redo"):
        return _adapters(session, none=words[0] == "use")
    if words[0] == "panel":
        return list(PANELS)
    if words[0] in ("forget", "probe", "tokens") and session.loaded:
        begun = "".join(f"{word} " for word in words[1:]).casefold()  # keywords may have spaces, but IPython completes a single word
        return [fact.keyword[len(begun) :] for fact in session.lm.facts if fact.keyword.casefold().startswith(begun)]
    command = getattr(NbtuneMagics, f"_{words[0]}", None) if words[0] in COMMANDS else None
    return _options(command, words) if command is not None and hasattr(command, "parser") else []


def _options(magic: Any, words: list[str]) -> list[str]:
    """Return the options of a magic; none after an option that takes a value, so that IPython offers variables and files."""
    return [] if wants_value(magic, words[-1]) else option_names(magic)


def _adapters(session: Nbtune, *, none: bool) -> list[str]:
    """Return the names of the stored adapters and, on request, ``none``, which stands for the base."""
    if not session.loaded:
        return []
    with suppress(NbtuneError):  # offer nothing if the store can't be read
        return [*session.lm.store.names(), *(["none"] if none else [])]
    return []
