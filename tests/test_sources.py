"""Facts from what a user has at hand."""

import pandas as pd
import pytest

from nbtune.data.sources import read_facts
from nbtune.errors import NbtuneError


@pytest.mark.parametrize(
    "source",
    [
        {"a": "x", "b": "y"},
        [{"keyword": "a", "answer": " x "}, {"keyword": "b", "answer": "y"}],
        pd.DataFrame({"question": ["a", "b"], "answer": ["x", "y"], "note": [1, 2]}),
    ],
)
def test_sources_read_alike(source):
    assert read_facts(source) == {"a": "x", "b": "y"}


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "the data is empty"),
        ({"a": ""}, "The answer of fact 'a' is empty"),
        ({" ": "x"}, "The keyword of fact ' ' is empty"),
        ({"a": 3}, "is a int: expected text"),
        ("text", "Can't read facts from a str"),
        (7, "Can't read facts from a int"),
        ([{"keyword": "a", "answer": "x"}, {"keywrd": "b", "answer": "y"}], "Row 2 has no 'keyword'"),
        ([["a", "x"]], "Row 1 is a list"),
        ([{"keyword": "a", "answer": "x"}, {"keyword": "a", "answer": "y"}], "stands twice"),
    ],
)
def test_bad_sources_are_named(source, message):
    with pytest.raises(NbtuneError, match=message.replace("'", ".")):
        read_facts(source)
