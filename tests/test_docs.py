"""What the documents show runs, and what they list is what there is."""

import json
import re
from pathlib import Path

import pytest

from nbtune.data.examples import read_examples
from nbtune.data.formats import FORMATS
from nbtune.data.reading import Reading
from nbtune.magics.chat import ChatMagics
from nbtune.magics.finetune import FinetuneMagics
from nbtune.magics.nbtune import COMMANDS, NbtuneMagics
from nbtune.magics.options import option_names
from nbtune.training.methods import METHODS
from tests.test_families import FAMILIES
from tools.readme_tables import PAGES, filled

ROOT = Path(__file__).parent.parent


def test_the_code_of_the_training_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "training.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    namespace = {}
    for block in blocks:
        exec(block, namespace)  # noqa: S102 - our own page
    assert len(namespace["history"]) == 5


@pytest.mark.parametrize("page", PAGES)
def test_the_measured_tables_are_those_of_the_results(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text == filled(text), "run python tools/readme_tables.py"


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_of_options_are_complete(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    for magic in (
        ChatMagics.chat,
        FinetuneMagics.finetune,
        NbtuneMagics._model,
        NbtuneMagics._data,
        NbtuneMagics._evaluate,
        NbtuneMagics._export,
        NbtuneMagics._push,
    ):
        for option in option_names(magic):
            assert f"`{option}" in text, f"{page} does not mention {option}"
    for command in COMMANDS:
        assert f"`%nbtune {command}" in text, f"{page} does not mention %nbtune {command}"


def test_the_table_of_models_is_that_of_the_tests():
    text = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert set(re.findall(r"`(\w+Config)`", text)) == set(FAMILIES)


def test_the_table_of_formats_is_that_of_the_code():
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    rows = {
        name.strip(): json.loads(row.replace("\\|", "|"))
        for name, row in re.findall(r"^\| ([^|]+) \|.*\| `(\{.*\})` \|$", text, re.MULTILINE)
    }
    assert list(rows) == [form.name for form in FORMATS]
    for name, row in rows.items():
        assert read_examples([row], Reading()).format == name


@pytest.mark.parametrize("page", PAGES)
def test_the_table_of_methods_is_that_of_the_code(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `([\w-]+)` \|", text, re.MULTILINE)) == set(METHODS)
