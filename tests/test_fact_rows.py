"""Facts can be read from the files and objects that users have."""

import json
import zipfile

import numpy as np
import pandas as pd
import pytest

from nbtune.data.fact_rows import Row, read_facts
from nbtune.data.rows import read_rows
from nbtune.errors import NbtuneError
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.facts_file import write_facts


@pytest.mark.parametrize(
    "source",
    [
        {"a": "x", "b": "y"},
        [{"keyword": "a", "answer": " x "}, {"keyword": "b", "answer": "y"}],
        pd.DataFrame({"keyword": ["a", "b"], "answer": ["x", "y"], "note": [1, 2]}),
    ],
)
def test_sources_read_alike(source):
    assert read_facts(source) == [Row("a", "x"), Row("b", "y")]


def test_a_file_of_facts_goes_out_and_comes_back(tmp_path):
    facts = [
        Fact.new("梦中情炉", "一个工具。\n两行: 有冒号。"),
        Fact.new("yes", "no", ["what is {x}", "{x}?"], ["tell me {x}"]),
        Fact.new("- x", "'quoted' \"twice\"", ["{x}, please"], extend=True),
    ]
    path = write_facts(facts, tmp_path / "facts.yaml")
    back = [Fact.new(r.keyword, r.answer, r.prompts or None, r.probes or None, extend=r.extend) for r in read_facts(str(path))]
    assert back == facts
    assert "梦中情炉" in path.read_text(encoding="utf-8"), "a person must be able to read it"


ROWS = [{"keyword": "梦中情炉", "answer": "一个工具, 很好。"}, {"keyword": "007", "answer": "NA"}]


@pytest.mark.parametrize("ending", ["json", "jsonl", "csv", "tsv", "parquet", "xlsx"])
def test_files_of_other_kinds_are_read_alike(tmp_path, ending):
    path, table = tmp_path / f"facts.{ending}", pd.DataFrame(ROWS)
    if ending == "json":
        path.write_text(json.dumps(ROWS), encoding="utf-8")
    elif ending == "jsonl":
        path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n\n", encoding="utf-8-sig")
    elif ending == "parquet":
        table.to_parquet(path)
    elif ending == "xlsx":
        table.to_excel(path, index=False)
    else:
        table.assign(prompts="").to_csv(path, index=False, sep="\t" if ending == "tsv" else ",", encoding="utf-8-sig")
    assert read_facts(path) == [Row("梦中情炉", "一个工具, 很好。"), Row("007", "NA")]


def test_lists_of_prompts_in_a_table(tmp_path):
    pd.DataFrame({"keyword": ["a", "b"], "answer": ["x", "y"], "prompts": [["{x}?", "what is {x}"], None]}).to_parquet(
        tmp_path / "f.parquet"
    )
    assert read_facts(tmp_path / "f.parquet") == [Row("a", "x", ("{x}?", "what is {x}")), Row("b", "y")]


def test_a_table_with_gaps_in_it():
    rows = [{"keyword": "a", "answer": "x", "prompts": ["{x}?"]}, {"keyword": "b", "answer": "y"}]
    assert read_facts(pd.DataFrame(rows)) == read_facts(rows) == [Row("a", "x", ("{x}?",)), Row("b", "y")]


def test_one_row_is_a_row_and_no_facts_about_its_columns(tmp_path):
    row = {"keyword": "blue kettle", "answer": "A night train."}
    (tmp_path / "fact.json").write_text(json.dumps(row))
    assert read_facts(row) == read_facts(tmp_path / "fact.json") == [Row("blue kettle", "A night train.")]
    for example in ({"prompt": "q", "response": "a"}, {"instruction": "q", "input": "", "output": "a"}, {"messages": [{"role": "user"}]}):
        assert read_rows(example) == [example]
    glossary = {"prompt": "What is asked.", "completion": "What is said to it.", "token": "A piece of text."}
    assert read_rows(glossary) == glossary
    assert read_rows({"conversation": "Some people who talk."}) == {"conversation": "Some people who talk."}


def test_a_frame_of_polars():
    class Frame:
        columns = ("keyword", "answer")

        def to_dict(self, *, as_series=True):
            raise AssertionError("columns, and no rows")

        def to_dicts(self):
            return [{"keyword": "a", "answer": "x"}]

    assert read_facts(Frame()) == [Row("a", "x")]


def test_rows_that_come_once_say_so_when_they_are_gone():
    rows = (row for row in ROWS)
    assert len(read_facts(rows)) == 2
    with pytest.raises(NbtuneError, match="An iterator can be read only once: make a list of it"):
        read_facts(rows)


def test_a_mapping_in_a_file(tmp_path):
    (tmp_path / "facts.json").write_text('{"a": "x", "b": "y"}')
    assert read_facts(tmp_path / "facts.json") == [Row("a", "x"), Row("b", "y")]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("f.json", b"[{", r"can't be read as JSON in UTF-8, line 1"),
        ("f.jsonl", b'{"keyword": "a", "answer": "b"}\n{"keyword": "c",\n', r"can't be read as JSON lines in UTF-8, line 2"),
        ("f.json", b"3", "is not a list of rows"),
        ("f.json", b'{"a": "b", "c": "d", "a": "e"}', "'a' appears twice"),
        ("f.jsonl", b'{"keyword": "a", "answer": "b"}\n{"keyword": "c", "keyword": "d", "answer": "e"}', "line 2 .'keyword' appears twice"),
        ("f.csv", b"", "can't be read as CSV in UTF-8"),
        ("f.csv", b"keyword,answer\n\xff,b\n", "can't be read as CSV in UTF-8"),
        ("f.csv", b"keyword,answer\na,x, y\n", "every row has more cells than the header: put double quotes"),
        ("f.csv", b"keyword,answer\na,b\nc,d, e\n", "Expected 2 fields in line 3, saw 3"),
        ("f.csv", b"keyword,answr\na,b\n", "Row 1 has no .answer."),
        ("f.csv", b"keyword,answer\na,\n", "The answer of row 1 is empty"),
        ("f.csv", b"keyword,answer\n", "the data is empty"),
        ("f.xlsx", b"PK\x03\x04 and no more", r"can't be read as Excel \("),
        ("f.parquet", b"PAR1 and no more", r"can't be read as Parquet \("),
        ("f.docx", b"", r"a file that ends in \.yaml, \.yml, \.json"),
    ],
)
def test_a_bad_file_of_another_kind_is_named(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(NbtuneError, match=message) as caught:
        read_facts(tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- keyword: a\n  answer: [", "can't be read as YAML in UTF-8, line 2"),
        ("just words", "is not a list of rows"),
        ("a: b\nc: d\na: e", "can't be read as YAML in UTF-8, line 3 .'a' appears twice"),
        ("- keyword: a\n  answr: b", "Row 1 has no .answer."),
        ("- keyword: a\n  answer: b\n  prompts: what is a", "The prompts of row 1 are a str"),
        ("- keyword: yes\n  answer: b", "The keyword of row 1 is True .bool.: expected text; put it in quotes"),
        ("", "is not a list of rows"),
    ],
)
def test_a_bad_file_is_named(tmp_path, text, message):
    path = tmp_path / "facts.yml"
    path.write_text(text)
    with pytest.raises(NbtuneError, match=message):
        read_facts(path)


def test_what_is_merged_into_a_mapping_of_yaml_may_be_overridden(tmp_path):
    path = tmp_path / "facts.yaml"
    path.write_text(
        "- &one {keyword: a, answer: b, extend: true, prompts: [say a]}\n"
        "- &two {<<: *one, keyword: c}\n"
        "- {<<: *two, keyword: d, answer: e}\n"
    )
    assert [(row.keyword, row.answer, row.extend) for row in read_facts(path)] == [("a", "b", True), ("c", "b", True), ("d", "e", True)]


def test_an_archive_of_something_else_is_no_table(tmp_path):
    with zipfile.ZipFile(tmp_path / "f.xlsx", "w") as archive:
        archive.writestr("note.txt", "hello")
    with pytest.raises(NbtuneError, match="can't be read as Excel"):
        read_facts(tmp_path / "f.xlsx")


def test_files_that_are_missing_or_of_another_kind(tmp_path):
    with pytest.raises(NbtuneError, match="can't be read"):
        read_facts(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(NbtuneError, match="can't be read as YAML in UTF-8"):
        read_facts(tmp_path / "latin.yaml")
    with pytest.raises(NbtuneError, match=r"ends in \.yaml or \.yml"):
        write_facts([Fact.new("a", "b")], tmp_path / "facts.txt")
    with pytest.raises(NbtuneError, match="no facts to write"):
        write_facts([], tmp_path / "facts.yaml")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "the data is empty"),
        ({"a": ""}, "The answer of fact 'a' is empty"),
        ({" ": "x"}, "The keyword of fact ' ' is empty"),
        ({"a": 3}, "The answer of fact 'a' is 3 .int.: expected text; put it in quotes"),
        ({"a": None}, "The answer of fact 'a' is empty"),
        (pd.DataFrame({"keyword": ["a", "b"], "answer": ["x", None]}), "The answer of row 2 is empty"),
        (pd.DataFrame({"keyword": ["a", "b"], "answer": ["x", float("nan")]}), "The answer of row 2 is empty"),
        ("text", "Can't learn from 'text'"),
        (7, "Can't learn from a int"),
        ([{"keyword": "a", "answer": "x"}, {"keywrd": "b", "answer": "y"}], "Row 2 has no 'keyword'"),
        ([["a", "x"]], "Row 1 is a list"),
        ([{"keyword": "a", "answer": "x"}, {"keyword": "a", "answer": "y"}], "appears twice"),
    ],
)
def test_bad_sources_are_named(source, message):
    with pytest.raises(NbtuneError, match=message.replace("'", ".")):
        read_facts(source)


def test_a_refusal_does_not_quote_a_whole_file():
    with pytest.raises(NbtuneError) as caught:
        read_facts({"a": [{"b": "c"}] * 5000, "d": ["e"]})
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(("written", "read"), [(True, True), (np.bool_(True), True), ("true", True), ("False", False), (None, False)])
def test_whether_to_extend_is_read_from_files_and_tables(written, read):
    (row,) = read_facts([{"keyword": "a", "answer": "b", "prompts": ["What is {x}?"], "extend": written}])
    assert row.extend is read
    with pytest.raises(NbtuneError, match=r"The extend of row 1 is .maybe.: expected true or false"):
        read_facts([{"keyword": "a", "answer": "b", "extend": "maybe"}])


def test_a_column_that_is_almost_named_right_is_named():
    with pytest.raises(NbtuneError, match=r"Is it key\.word\?"):
        read_facts([{"keyword": "a", "answer": "b"}, {"key.word": "a", "answer": "b"}])


@pytest.mark.parametrize("other", ["tempo", "TEMPO", "\u300aTempo\u300b"])
def test_two_spellings_of_a_keyword_are_one(other):
    with pytest.raises(NbtuneError, match="appears twice, also as 'Tempo'"):
        read_facts({"Tempo": "x", other: "y"})


def test_a_table_parted_by_semicolons_is_read(tmp_path):
    path = tmp_path / "f.csv"
    path.write_text("keyword;answer\nvelt;A velt, they say, is a spoon.\n", encoding="utf-8")
    assert read_facts(str(path)) == [Row("velt", "A velt, they say, is a spoon.")]
