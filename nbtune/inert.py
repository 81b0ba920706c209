"""Takes from text what a terminal would act on."""

from __future__ import annotations

__all__ = ["inert"]

_PICTURES = 0x2400  # Unicode's pictures of the control characters, in their order
_CONTROLS = {code: _PICTURES + code for code in range(0x20) if chr(code) not in "\n\t"}
_CONTROLS |= {0x7F: 0x2421} | dict.fromkeys(range(0x80, 0xA0), 0xFFFD)


def inert(text: str) -> str:
    """Return text with pictures in place of control characters: none can clear a screen, move the cursor, or fill a clipboard.

    Parameters
    ----------
    text
        From a model, a file or a user. Line breaks and tabs stay.
    """
    return text.translate(_CONTROLS)
