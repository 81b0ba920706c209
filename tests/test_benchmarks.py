"""The speed benchmark compares equal work, and says of each row what was reached."""

import pytest

from benchmarks.speed import ratio, summary, table, verdict
from benchmarks.speed_rows import ROWS, check_gradients
from nbtune.tiny import WEIGHTS


def test_the_epochs_that_are_compared_have_equal_gradients():
    assert check_gradients(str(WEIGHTS)) <= 1e-4


@pytest.mark.parametrize(
    ("name", "usual", "ours", "reached"),
    [
        ("epoch", (10.0,) * 5, (1.0,) * 5, "goal"),
        ("epoch", (6.0,) * 5, (1.0,) * 5, "floor"),
        ("epoch", (1.0,) * 5, (1.0,) * 5, "missed"),
        ("loop", (1.01,) * 5, (1.0,) * 5, "goal"),
        ("loop", (1.2,) * 5, (1.0,) * 5, "missed"),
        ("extension", (10.0,) * 5, (40.0,) * 5, "goal"),
    ],
)
def test_what_is_reached(name, usual, ours, reached):
    row = next(row for row in ROWS if row.measure.__name__ == name)
    found = ratio(row, usual, ours)
    assert verdict(row, found) == reached
    results = [{"on": "tiny", "row": row.name, "usual": usual, "ours": ours, "ratio": found}]
    line = table(results).splitlines()[-1]
    assert line.startswith(f"| tiny | {row.name} |")
    assert line.endswith(f"| {reached} |")
    figure = summary(results).splitlines()[-1].split(" | ")[1]
    assert (figure.startswith("**"), figure.endswith("✗")) == (reached == "goal", reached == "missed")
