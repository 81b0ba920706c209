"""Parses the option line of a magic: options first, then text exactly as typed."""

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

# What is quoted ends where a word ends, so that an apostrophe within a name is no quote.
_TOKEN = re.compile(r"""\s*((?:--?[\w-]+=)?(?:"[^"]*"|'[^']*')(?!\S)|\S+)""")
_OPTION = re.compile(r"--?[A-Za-z][\w-]*$")
_FIELD = re.compile(r"\{([A-Za-z_]\w*)\}")


def parse(magic: Callable[..., Any], line: str, *, anywhere: bool = False) -> tuple[Namespace, str]:
    """Read the options of a line.

    Parameters
    ----------
    magic
        A function declared with IPython's `magic_arguments`.
    line
        What stands behind the magic's name.
    anywhere
        Options may also stand behind the text or inside it; otherwise the text begins with the first word that
        is no option, and is handed on untouched.

    Returns
    -------
    tuple
        The options, and the text.

    Raises
    ------
    NbtuneError
        For an unknown option, with the closest known one; or a value that does not fit.
    """
    parser: MagicArgumentParser = magic.parser  # type: ignore[attr-defined]
    takes_value = _takes_value(parser)
    options: list[str] = []
    text: list[str] = []
    at = 0
    while match := _TOKEN.match(line, at):
        token = match[1]
        name, equals, value = token.partition("=")
        if token == "--":  # noqa: S105 - the usual end of options
            at = match.end()
            break
        if not _OPTION.fullmatch(name):
            if not anywhere:
                break
            text.append(token)
            at = match.end()
            continue
        if name not in takes_value:
            raise NbtuneError(f"Unknown option {name}: known are {', '.join(takes_value)}.{did_you_mean(name, takes_value)}")
        at = match.end()
        options.append(name)
        if takes_value[name]:
            if not equals:
                following = _TOKEN.match(line, at)
                if following is None:
                    raise NbtuneError(f"{name} needs a value.")
                value, at = following[1], following.end()
            options[-1:] = [f"{name}={unquoted(value)}"] if name.startswith("--") else [name, unquoted(value)]
        elif equals:
            raise NbtuneError(f"{name} takes no value: give it alone, or leave it out.")
    rest = line[at:].strip()
    if len(text) == 1 and not rest:
        text = [unquoted(text[0])]  # quotes inside a text belong to it
    try:
        return parser.parse_args(options), " ".join([*text, rest]).strip()
    except UsageError as error:
        raise NbtuneError(_reason(str(error))) from None


def option_names(magic: Callable[..., Any]) -> list[str]:
    """Return the options of a magic, for completion."""
    return list(_takes_value(magic.parser))  # type: ignore[attr-defined]


def wants_value(magic: Callable[..., Any], word: str) -> bool:
    """Say whether a word is an option of a magic that takes a value."""
    return _takes_value(magic.parser).get(word, False)  # type: ignore[attr-defined]


def fill_variables(text: str, namespace: Mapping[str, Any]) -> str:
    """Replace each ``{name}`` by the notebook's variable; all other braces stay as typed.

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
    """Turn argparse's words for a bad value into ours, without the usage text before them."""
    match = re.search(r"argument (?:-\w/)?(--?[\w-]+).*?: (?:invalid (\w+) value|expected one argument)(?:: '(.*)')?", message)
    if match and match[2]:
        kind = {"int": "a whole number", "float": "a number"}.get(match[2], "something else")
        return f"{match[1]} {match[3]!r}: expected {kind}."
    return message.strip().splitlines()[-1]
