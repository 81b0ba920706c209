"""Figures in HTML are legible on light and dark: a transparent background, and no black."""

import base64
import io
import re

from matplotlib.figure import Figure
from PIL import Image

from nbtune.display.figures import embedded


def test_a_figure_has_no_ground_and_no_black():
    figure = Figure(figsize=(4, 2))
    axes = figure.subplots()
    axes.plot([1, 2], label="loss", color="#0072B2")
    axes.set_xlabel("epoch")
    figure.legend(frameon=False)
    html = embedded(figure, 'a "curve"')
    assert 'alt="a &quot;curve&quot;"' in html
    picture = Image.open(io.BytesIO(base64.b64decode(re.search('base64,([^"]+)', html)[1]))).convert("RGBA")
    pixels = [pixel[:3] for _, pixel in picture.getcolors(picture.width * picture.height) if pixel[3] == 255]
    assert picture.getpixel((0, 0))[3] == 0
    assert pixels
    assert min(map(sum, pixels)) > 3 * 64, "dark on dark"
    assert max(map(sum, pixels)) < 3 * 224, "light on light"
