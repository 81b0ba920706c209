"""Takes a film of a notebook: what is typed, what comes, as a GIF."""

import io
import re
import time

from PIL import Image
from playwright.sync_api import expect


class Film:
    """What a notebook shows over time, as a picture that moves."""

    def __init__(self, opened):
        self._opened, self._shown = opened, opened.page.locator(".jp-WindowedPanel-outer").first
        self._pictures, self._seconds, self._cells = [], [], 0

    def take(self, seconds):
        """Take a picture that is seen for so long."""
        self._opened.page.locator(".jp-Cell").last.evaluate("cell => cell.scrollIntoView({block: 'end'})")
        self._pictures.append(self._shown.screenshot())
        self._seconds.append(seconds)

    def cell(self, code, pause=1.5):
        """Type a cell, run it, and look on until it is done."""
        typed = self._opened.page.locator(".jp-Cell.jp-mod-active .cm-content")
        typed.click()
        expect(typed).to_be_focused()
        for at in range(0, len(code), 3):
            self._opened.page.keyboard.type(code[at : at + 3])
            self.take(0.1)
        self.take(0.5)
        self._opened.command("notebook:run-cell-and-insert-below")
        self._cells += 1
        while self._opened.page.locator(".jp-InputPrompt", has_text=re.compile(r"\[\d+\]")).count() < self._cells:
            began = time.monotonic()
            self.take(0)
            self._opened.page.wait_for_timeout(200)
            self._seconds[-1] = time.monotonic() - began
        self.take(pause)

    def write(self, path):
        """Write a GIF, in the colours of the picture that has most of them."""
        pictures = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in self._pictures]
        colours = max(pictures, key=lambda picture: len(picture.getcolors(picture.width * picture.height))).quantize(96)
        first, *others = [picture.quantize(palette=colours, dither=Image.Dither.NONE) for picture in pictures]
        times = [int(1000 * seconds) for seconds in self._seconds]
        first.save(path, save_all=True, append_images=others, duration=times, loop=0, optimize=True)
