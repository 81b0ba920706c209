"""Replaces the control characters in text, on which a terminal would act."""

from __future__ import annotations

__all__ = ["inert"]

_PICTURES = 0x2400  # Unicode's symbols for the control characters, in the same order
_CONTROLS = {code: _PICTURES + code for code in range(0x20) if chr(code) not in "\n\t"}
_CONTROLS |= {0x7F: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


def inert(text: str) -> str:
    """Return text with symbols in place of control characters, which could clear the screen, move the cursor or fill the clipboard.

    Parameters
    ----------
    text
        Text from a model, a file or a user. Line breaks and tabs are kept.
    """
    return text.translate(_CONTROLS)
