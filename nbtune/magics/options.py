"""Parses the option line of a magic: options first, then the text exactly as typed."""

from __future__ import annotations

import re
from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any

from IPython.core.error import UsageError
from IPython.core.magic_arguments import MagicArgumentParser

from nbtune.errors import NbtuneError, did_you_mean
from nbtune.variables import variable

__all__ = ["fill_variables", "option_names", "parse", "unquoted", "wants_value"]

# A closing quote must end a word, so that an apostrophe within a name is not taken for a quote.
_TOKEN = re.compile(r"""\s*((?:--?[\w-]+=)?(?:"[^"]*"|'[^']*')(?!\S)|\S+)""")
_OPTION = re.compile(r"--?[A-Za-z][\w-]*$")
_FIELD = re.compile(r"\{([A-Za-z_]\w*)\}")


def parse(magic: Callable[..., Any], line: str, *, anywhere: bool = False) -> tuple[Namespace, str]:
    """Split the line of a magic into options and text.

    Parameters
    ----------
    magic
        A function declared with IPython's `magic_arguments`.
    line
        The rest of the line after the magic's name.
    anywhere
        Whether options may also come after the text or inside it. Default: False; the text begins at the first word
        that is not an option, and is returned as typed.

    Returns
    -------
    tuple
        The options, and the text.

    Raises
    ------
    NbtuneError
        For an unknown option, with the closest known one as a hint; or for a missing or invalid value.
    """
    parser: MagicArgumentParser = magic.parser  # type: ignore[attr-defined]
    takes_value = _takes_value(parser)
    options: list[str] = []
    text: list[str] = []
    at = 0
    while match := _TOKEN.match(line, at):
        token = match[1]
        name, equals, value = token.partition("=")
        if token == "--":  # noqa: S105 - the conventional end of options
            at = match.end()
            break
        if not _OPTION.fullmatch(name):
            if not anywhere:
                break
            text.append(token)
            at = match.end()
            continue
        if name in ("-h", "--help"):
            raise NbtuneError("For help, put a question mark after the magic: %chat?, %%finetune? or %nbtune?.")
        if name not in takes_value:
            raise NbtuneError(f"Unknown option {name}: choose from {', '.join(takes_value)}.{did_you_mean(name, takes_value)}")
        at = match.end()
        options.append(name)
        if takes_value[name]:
            if not equals:
                following = _TOKEN.match(line, at)
                if following is None or following[1] in takes_value:
                    raise NbtuneError(f"{name} needs a value.")
                value, at = following[1], following.end()
            if value[:1] in ("'", '"') and (len(value) == 1 or value[-1] != value[0]):
                raise NbtuneError(f"The quote that opens the value of {name} is not closed: close it, and use the other kind inside.")
            options[-1:] = [f"{name}={unquoted(value)}"] if name.startswith("--") else [name, unquoted(value)]
        elif equals:
            raise NbtuneError(f"{name} takes no value: write only {name}, or leave it out.")
    rest = line[at:].strip()
    if len(text) == 1 and not rest:
        text = [unquoted(text[0])]  # quotes inside a text are part of it
    try:
        return parser.parse_args(options), " ".join([*text, rest]).strip()
    except UsageError as error:
        raise NbtuneError(_reason(str(error))) from None


def option_names(magic: Callable[..., Any]) -> list[str]:
    """Return the options of a magic, for completion."""
    return list(_takes_value(magic.parser))  # type: ignore[attr-defined]


def wants_value(magic: Callable[..., Any], word: str) -> bool:
    """Return whether a word is an option of a magic that takes a value."""
    return _takes_value(magic.parser).get(word, False)  # type: ignore[attr-defined]


def fill_variables(text: str, namespace: Mapping[str, Any]) -> str:
    """Return text with each ``{name}`` replaced by the notebook's variable; other braces stay as typed.

    Raises
    ------
    NbtuneError
        When there is no variable of that name.
    """
    return _FIELD.sub(lambda match: str(variable(match[1], namespace, "--vars")), text)


def _takes_value(parser: MagicArgumentParser) -> dict[str, bool]:
    actions = parser._option_string_actions  # argparse has no public list of its options
    return {name: action.nargs != 0 for name, action in actions.items() if name not in ("-h", "--help")}


def unquoted(value: str) -> str:
    """Return a text without the quotes around it, if there are any."""
    return value[1:-1] if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'" else value


def _reason(message: str) -> str:
    """Return argparse's message about a bad value in our words, without the usage text before it."""
    match = re.search(r"argument (?:-\w/)?(--?[\w-]+).*?: (?:invalid (\w+) value|expected one argument)(?:: '(.*)')?", message)
    if match and match[2]:
        kind = {"int": "a whole number", "float": "a number"}.get(match[2], "something else")
        return f"{match[1]} {match[3]!r}: expected {kind}."
    return message.strip().splitlines()[-1]
