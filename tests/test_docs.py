"""The code in the documentation runs, and its lists match the package."""

import json
import re
from html import unescape
from pathlib import Path

import pytest

import nbtune
from nbtune.data.examples import read_examples
from nbtune.data.formats import FORMATS
from nbtune.data.reading import Reading
from nbtune.magics.finetune import FinetuneMagics
from nbtune.magics.nbtune import COMMANDS
from nbtune.training.methods import METHODS
from tools.option_tables import option_tables
from tools.readme_tables import PAGES, READMES, filled

ROOT = Path(__file__).parent.parent


def test_the_code_of_the_training_page_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "training.md").read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    namespace = {}
    for block in blocks:
        exec(block, namespace)  # noqa: S102 - our own page
    assert len(namespace["history"]) == 5


@pytest.mark.parametrize("page", READMES)
def test_the_model_replies_as_the_tour_says(page, lm):
    question, reply = re.search(r"```\n%%chat\n(.+)\n```\n+> (.+)\n", (ROOT / page).read_text(encoding="utf-8")).groups()
    assert lm.chat(question) == reply


@pytest.mark.parametrize("page", PAGES)
def test_the_tables_are_those_of_the_results_and_the_code(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert text == filled(text), "run python -m tools.readme_tables"


def test_every_option_has_its_table_in_the_docs():
    pages = "".join((ROOT / page).read_text(encoding="utf-8") for page in PAGES if page.startswith("docs/"))
    assert [name for name in option_tables() if f"<!-- {name} -->" not in pages] == []


def test_the_tables_written_by_hand_are_complete():
    text = (ROOT / "README.zh-CN.md").read_text(encoding="utf-8")
    for name, table in option_tables().items():
        for listed in re.findall(r"`(--?[a-z][\w-]*|Nbtune\.\w+)", "".join(row.split(" | ")[0] for row in table.splitlines())):
            assert f"`{listed}" in text, f"README.zh-CN.md does not mention {listed} ({name})"
    for command in COMMANDS:
        assert f"`%nbtune {command}" in text, f"README.zh-CN.md does not mention %nbtune {command}"


def test_the_help_names_every_method():
    (action,) = (action for action in FinetuneMagics.finetune.parser._actions if action.dest == "method")
    assert set(re.findall(r"`([\w-]+)`", action.help)) == set(METHODS)


def test_the_table_of_formats_is_that_of_the_code():
    text = (ROOT / "docs" / "data.md").read_text(encoding="utf-8")
    rows = {
        name.strip(): json.loads(unescape(row))
        for name, row in re.findall(r"^\| ([^|]+) \|.*\| (?:`|<code>)(\{.*\})(?:`|</code>) \|$", text, re.MULTILINE)
    }
    assert list(rows) == [form.name for form in FORMATS]
    for name, row in rows.items():
        assert read_examples([row], Reading()).format == name


@pytest.mark.parametrize("page", READMES)
def test_the_table_of_methods_is_that_of_the_code(page):
    text = (ROOT / page).read_text(encoding="utf-8")
    assert set(re.findall(r"^\| `(\w[\w-]*)` \|", text, re.MULTILINE)) == set(METHODS)


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_the_commands_that_a_page_names_exist(page):
    named = set(re.findall(r"%nbtune ([a-z]+)", page.read_text(encoding="utf-8")))
    assert named <= set(COMMANDS)


def test_every_public_name_is_on_the_page_of_the_api():
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^::: nbtune\.(\w+)$", text, re.MULTILINE)) >= set(nbtune.__all__)
