"""Examples in every format of the table, and rows that can't be used."""

from __future__ import annotations

import json

import datasets
import pandas as pd
import pytest

from nbtune.data.detection import FACTS, kind_of
from nbtune.data.examples import read_examples, split
from nbtune.data.files import read_turns
from nbtune.data.formats import FORMATS, find_format
from nbtune.data.reading import Reading
from nbtune.data.rows import read_rows
from nbtune.errors import NbtuneError


def chat(*turns: str, system: str | None = None) -> list[dict[str, str]]:
    opening = [{"role": "system", "content": system}] if system else []
    return [*opening, *({"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(turns))]


# For each format, a row and the conversation in it.
ROWS = {
    "messages (OpenAI)": (
        {"messages": chat("hi", "hello", "and?", "well", system="be kind")},
        chat("hi", "hello", "and?", "well", system="be kind"),
    ),
    "conversations of from and value (ShareGPT, Vicuna)": (
        {"id": "x", "conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
        chat("hi", "hello"),
    ),
    "conversation of human and assistant (Firefly)": (
        {"conversation": [{"human": "你好", "assistant": "你好！"}, {"human": "再见", "assistant": "再见。"}]},
        chat("你好", "你好！", "再见", "再见。"),
    ),
    "chat of Human and MOSS (MOSS)": (
        {"chat": {"turn_1": {"Human": "<|Human|>: hi<eoh>\n", "Inner Thoughts": "None", "MOSS": "<|MOSS|>: hello<eom>\n"}, "turn_2": None}},
        chat("hi", "hello"),
    ),
    "instruction, input, output (Alpaca, BELLE)": (
        {"instruction": "Translate.", "input": "chat", "output": "cat"},
        chat("Translate.\nchat", "cat"),
    ),
    "instruction, context, response (Dolly)": (
        {"instruction": "Name it.", "context": "It purrs.", "response": "A cat.", "category": "closed_qa"},
        chat("Name it.\nIt purrs.", "A cat."),
    ),
    "prompt, response, history (ChatGLM)": (
        {"prompt": "and then?", "response": "the end", "history": [["begin", "once"]]},
        chat("begin", "once", "and then?", "the end"),
    ),
    "prompt and completion (TRL)": ({"prompt": "1+1=", "completion": "2"}, chat("1+1=", "2")),
    "content and summary (ADGEN)": ({"content": "类型#裙*颜色#红", "summary": "一条红裙。"}, chat("类型#裙*颜色#红", "一条红裙。")),
    "question and answer": ({"question": "Which colour?", "answer": "Green."}, chat("Which colour?", "Green.")),
}


def test_every_format_of_the_table_is_tried():
    assert set(ROWS) == {form.name for form in FORMATS}


@pytest.mark.parametrize("name", ROWS)
def test_a_format_is_told_by_its_columns(name):
    row, expected = ROWS[name]
    read = read_examples([row, row], Reading())
    assert (read.format, read.conversations) == (name, [expected, expected])


@pytest.mark.parametrize("name", ROWS)
def test_a_format_is_read_from_a_file_alike(name, tmp_path):
    row, expected = ROWS[name]
    (tmp_path / "rows.jsonl").write_text(json.dumps(row, ensure_ascii=False), encoding="utf-8")
    assert read_examples(read_rows(tmp_path / "rows.jsonl"), Reading()).conversations == [expected]
    pd.DataFrame([row]).to_parquet(tmp_path / "rows.parquet")
    assert read_examples(read_rows(tmp_path / "rows.parquet"), Reading()).conversations == [expected]


def test_containers_are_read_alike(tmp_path):
    row, expected = ROWS["prompt, response, history (ChatGLM)"]
    data = datasets.Dataset.from_list([row])
    data.to_json(tmp_path / "train.jsonl", force_ascii=False)
    sources = [
        [row],
        (row,),
        (one for one in [row]),
        pd.DataFrame([row]),
        data,
        datasets.DatasetDict({"test": data, "train": data}),
        tmp_path,
    ]
    for source in sources:
        assert read_examples(read_rows(source), Reading()).conversations == [expected]


def test_columns_of_ones_own(tmp_path):
    table = pd.DataFrame({"ask": ["q"], "say": ["a"], "before": [json.dumps([["x", "y"]])], "other": [1]})
    reading = Reading(prompt_column="ask", response_column="say", history_column="before")
    assert read_examples(read_rows(table), reading).conversations == [chat("x", "y", "q", "a")]


def test_system_and_prefix():
    rows = [{"prompt": "q", "response": "a"}, {"prompt": "q", "response": "a", "system": "own"}]
    read = read_examples(rows, Reading(system="be brief", source_prefix="Q: "))
    assert read.conversations == [chat("Q: q", "a", system="be brief"), chat("Q: q", "a", system="own")]


@pytest.mark.parametrize("column", ["messages", "conversations", "conversation"])
@pytest.mark.parametrize("keys", [("role", "content"), ("from", "value")])
def test_a_list_of_turns_may_have_the_keys_of_another_format(column, keys):
    turns = [dict(zip(keys, turn.values(), strict=True)) for turn in chat("hi", "hello", "and?", "well", system="be kind")]
    rows = [{column: turns}, {column: json.dumps(turns)}, {column: [{**turn, "weight": None} for turn in turns]}]
    assert read_examples(rows, Reading()).conversations == [chat("hi", "hello", "and?", "well", system="be kind")] * 3


@pytest.mark.parametrize("name", ROWS)
def test_the_system_prompt_of_a_row_is_read_in_every_format(name):
    row, expected = ROWS[name]
    said = expected if expected[0]["role"] == "system" else [{"role": "system", "content": "own"}, *expected]
    assert read_examples([{**row, "system": "own"}], Reading(system="be brief")).conversations == [said]


def test_columns_are_read_as_their_rows(tmp_path):
    data = datasets.Dataset.from_list([ROWS["question and answer"][0], {"question": "Which size?", "answer": "Small."}])
    expected = [chat("Which colour?", "Green."), chat("Which size?", "Small.")]
    data.to_pandas().to_json(tmp_path / "rows.json")
    sources = (
        data[:2],
        tmp_path / "rows.json",
        data.to_iterable_dataset(),
        pd.DataFrame(data[:2]).rename(columns={"question": 0, "answer": 1}),
    )
    for source, named in zip(sources, ({}, {}, {}, {"prompt_column": "0", "response_column": "1"}), strict=True):
        assert read_examples(read_rows(source), Reading(**named)).conversations == expected
    talks = datasets.Dataset.from_list([ROWS["messages (OpenAI)"][0]] * 2)
    assert read_examples(read_rows(talks[:2]), Reading()).conversations == [ROWS["messages (OpenAI)"][1]] * 2
    assert read_rows({"keyword": ["a", "b"], "answer": ["x", "y"]}) == [{"keyword": "a", "answer": "x"}, {"keyword": "b", "answer": "y"}]
    assert read_rows(ROWS["messages (OpenAI)"][0]) == [ROWS["messages (OpenAI)"][0]], "a row of its own"


@pytest.mark.parametrize("name", ROWS)
def test_a_single_row_is_one_example(name):
    row, expected = ROWS[name]
    assert read_examples(read_rows({key: value for key, value in row.items() if key != "id"}), Reading()).conversations == [expected]


def test_json_lines_may_be_named_json(tmp_path):
    row, expected = ROWS["content and summary (ADGEN)"]
    (tmp_path / "train.json").write_text("\n".join([json.dumps(row)] * 2), encoding="utf-8")
    assert read_examples(read_rows(tmp_path / "train.json"), Reading()).conversations == [expected] * 2
    (tmp_path / "bad.json").write_text(json.dumps([row]) + "]", encoding="utf-8")
    with pytest.raises(NbtuneError, match="Extra data"):
        read_rows(tmp_path / "bad.json")
    (tmp_path / "line.json").write_text(f"{json.dumps(row)}\n{{", encoding="utf-8")
    with pytest.raises(NbtuneError, match="line 2 "):
        read_rows(tmp_path / "line.json")


def test_an_answer_beside_an_unknown_column_is_no_fact():
    with pytest.raises(NbtuneError, match="--prompt-column"):
        read_examples([{"query": "q", "answer": "a"}], Reading())
    assert kind_of([{"keywrod": "k", "answer": "a"}], Reading()) is None
    assert kind_of([{"keyword": "k", "reply": "a"}], Reading()) == FACTS


def test_what_is_wrong_with_the_examples_of_val_says_so():
    good = read_examples([{"prompt": "q", "response": "a"}], Reading())
    with pytest.raises(NbtuneError, match=r"--val: 1 of 1 rows can't be used: row 1: response is empty"):
        split(good, Reading(val=[{"prompt": "q", "response": ""}]), 0)


def test_rounds_before_may_be_messages():
    ways = (
        chat("x", "y"),
        [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}],
        [{"assistant": "y", "human": "x"}],
        [["x", "y"]],
    )
    read = read_examples([{"prompt": "q", "response": "a", "history": way} for way in ways], Reading())
    assert read.conversations == [[*chat("x", "y"), *chat("q", "a")]] * 4


def test_a_number_beside_an_instruction_is_not_left_out():
    with pytest.raises(NbtuneError, match="row 1: input is a int, not text"):
        read_examples([{"instruction": "Add one.", "input": 5, "output": "6"}], Reading())


def test_the_first_row_may_be_the_bad_one():
    read = read_examples([{"prompt": "q"}, {"prompt": "q", "response": "a"}], Reading(skip_bad=True))
    assert (read.conversations, read.bad) == ([chat("q", "a")], ((1, "response is missing"),))


def test_rows_that_name_their_columns_are_examples_whatever_else_is_in_them(tmp_path):
    rows = [{"keyword": "k", "answer": "a", "q": "What?"}]
    how = Reading(prompt_column="q", response_column="answer")
    assert kind_of(rows, how).columns == ("q", "answer")
    assert read_examples(rows, how).conversations == [chat("What?", "a")]
    assert kind_of(rows, Reading()) == FACTS
    assert kind_of([{"keyword": "k", "prompt": "q", "response": "a"}], Reading()) == find_format(("prompt", "response"), Reading())


def test_a_stray_row_does_not_decide_what_the_others_are():
    good, tagged, other = {"question": "q", "answer": "a"}, {"question": "q", "answer": "a", "keyword": "tag"}, {"messages": chat("q", "a")}
    read = read_examples([good, good, tagged, other], Reading(skip_bad=True))
    assert read.format == "question and answer"
    assert (len(read.conversations), read.bad) == (3, ((4, "question is missing"),))


@pytest.mark.parametrize("value", [None, "", " ", [], float("nan"), pd.NA])
def test_what_is_empty_beside_a_question_is_left_out(value):
    read = read_examples([{"instruction": "Add.", "input": value, "output": "6", "system": value, "history": value}], Reading())
    assert read.conversations == [chat("Add.", "6")]


def test_turns_that_are_written_down():
    text = "user: 你好\nassistant: 你好！\n第二行\n\n仍是一轮\nUser： and?\nassistant: yes\n\nsystem: be kind\nuser: hi\nassistant: hello\n"
    found = [row["messages"] for row in read_turns(text)]
    assert found[0] == [
        *chat("你好", "你好！\n第二行\n\n仍是一轮"),
        {"role": "user", "content": "and?"},
        {"role": "assistant", "content": "yes"},
    ]
    assert found[1] == chat("hi", "hello", system="be kind")
    parted = "system: be kind\n\nuser: hi\nassistant: hello\n\nsystem: be brief\nuser: hi\nassistant: yo"
    assert [row["messages"] for row in read_turns(parted)] == [chat("hi", "hello", system="be kind"), chat("hi", "yo", system="be brief")]
    assert read_turns("  user: hi\nassistant: yo")[0]["messages"] == chat("hi", "yo")
    with pytest.raises(ValueError, match="before the first") as caught:
        read_turns("\n\nhello\nuser: hi")
    assert caught.value.lineno == 3


def test_splits_below_their_names_are_read(tmp_path):
    rows = [{"prompt": "q", "response": "a"}]
    for number, whole in enumerate(({"data": rows}, {"test": [{"prompt": "t", "response": "t"}], "train": rows})):
        (tmp_path / f"{number}.json").write_text(json.dumps(whole))
        assert read_examples(read_rows(tmp_path / f"{number}.json"), Reading()).conversations == [chat("q", "a")]


@pytest.mark.parametrize("format_", ["pandas", "arrow", "numpy"])
def test_a_data_set_with_a_format_is_read(format_):
    data = datasets.Dataset.from_dict({"prompt": ["q"], "response": ["a"]}).with_format(format_)
    assert read_examples(read_rows(data), Reading()).conversations == [chat("q", "a")]


def test_the_columns_and_the_function_of_a_data_set_stay():
    data = datasets.Dataset.from_dict({"prompt": ["q"], "response": ["a"], "keyword": ["k"], "answer": ["x"]})
    chosen = data.with_format("numpy", columns=["prompt", "response"])
    made = data.with_transform(lambda batch: {"prompt": batch["keyword"], "response": batch["answer"]})
    assert read_examples(read_rows(chosen), Reading()).conversations == [chat("q", "a")]
    assert read_examples(read_rows(made), Reading()).conversations == [chat("k", "x")]


def test_a_heading_with_spaces_is_read(tmp_path):
    (tmp_path / "f.csv").write_text("prompt, response\nq, a\n")
    assert read_examples(read_rows(tmp_path / "f.csv"), Reading()).conversations == [chat("q", "a")]


def test_a_mapping_is_not_told_to_name_its_columns():
    with pytest.raises(NbtuneError, match=r"prompt and response\.$"):
        read_examples({"keyword": "answer"}, Reading())


BAD = [
    ({"prompt": "q", "response": "a"}, None),
    ({"prompt": "", "response": "a"}, "row 2: prompt is empty"),
    ({"prompt": "q", "response": 7}, "row 2: response is a int, not text"),
    ({"prompt": "q", "response": None}, "row 2: response is missing"),
    ({"prompt": "q", "response": "a", "history": "[["}, "row 2: history is not valid JSON"),
    ({"prompt": "q", "response": "a", "history": [["x"]]}, "row 2: history is not a list of question-answer pairs"),
    ("text", "row 2: it is a str, not a mapping"),
    ({"prompt": "q"}, "row 2: response is missing"),
    ({"prompt": "q", "response": "a", "history": ["你好", "在吗"]}, "row 2: history is not a list of question-answer pairs"),
    ({"prompt": "q", "response": "a", "history": [{"x": "1", "y": "2"}]}, "row 2: a round of history has none of prompt and response"),
    ({"prompt": "q", "response": "a", "system": 5}, "row 2: system is a int, not text"),
    ({"prompt": "q", "response": "a", "history": [{"role": "user", "content": "x"}]}, "row 2: its turns do not alternate"),
]


@pytest.mark.parametrize(("row", "reason"), BAD[1:])
def test_a_row_that_cant_be_used_is_named_or_skipped(row, reason):
    rows = [BAD[0][0], row, BAD[0][0]]
    with pytest.raises(NbtuneError, match=f"1 of 3 rows can't be used: {reason}.*--skip-bad"):
        read_examples(rows, Reading())
    read = read_examples(rows, Reading(skip_bad=True))
    assert len(read.conversations) == 2
    assert [number for number, _ in read.bad] == [2]


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (chat("q"), "from a question to an answer"),
        (chat("q", "a", "b"), "from a question to an answer"),
        ([*chat("q", "a"), *chat("q", "a")[1:]], "do not alternate"),
        ([chat("q")[0], {"role": "system", "content": "s"}, chat("q", "a")[1]], "do not alternate"),
        ([*chat("q", "a"), {"role": "system", "content": "s"}, *chat("q", "a")], "do not alternate"),
        ([{"role": "bard", "content": "x"}], "the role 'bard' is not one of"),
        ([{"role": "user"}], "has none of role and content, from and value, human and assistant"),
        (7, "does not match messages"),
        ([], "from a question to an answer"),
    ],
)
def test_a_conversation_that_no_template_takes_is_named(messages, reason):
    with pytest.raises(NbtuneError, match=reason):
        read_examples([{"messages": messages}], Reading())


@pytest.mark.parametrize(
    ("rows", "how", "message"),
    [
        ([{"promt": "q", "response": "a"}], {}, "match no known format. Did you mean prompt"),
        ([{"prompt": "q", "respnse": "a"}], {}, "match no known format. Did you mean response"),
        ([{"prompt": "q", "response": "a"}], {"prompt_column": "promt", "response_column": "response"}, "Did you mean prompt"),
        ([{"prompt": "q", "response": "a"}], {"prompt_column": "prompt"}, "together"),
        ([{"prompt": "", "response": ""}], {"skip_bad": True}, "No rows are left"),
        ({"keyword": "answer"}, {}, "are facts"),
        ([{"keyword": "k", "answer": "a"}], {}, "are facts: expected examples"),
        ([{"messages": []}], {"system": "s"}, "from a question to an answer"),
    ],
)
def test_data_that_cant_be_read_is_named(rows, how, message):
    with pytest.raises(NbtuneError, match=message):
        read_examples(rows, Reading(**how))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"turns": "lsat"}, "Did you mean last"),
        ({"turns": "last", "train_on_inputs": True}, "--turns last trains only the last reply"),
        ({"max_source_length": 0}, "--max-source-length 0"),
        ({"val": 1.5}, "--val 1.5"),
    ],
)
def test_options_out_of_range_are_named(how, message):
    with pytest.raises(NbtuneError, match=message):
        Reading(**how)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (7, "Can't learn from a int"),
        ("no/such/folder", "Can't learn from 'no/such/folder'"),
        ("user: " + "字" * 200, "Can't learn from 'user: "),
        ("nobody/no-such-data", "The data set 'nobody/no-such-data'"),
        ([], "the data is empty"),
    ],
)
def test_a_source_that_is_none_is_named(source, message, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    with pytest.raises(NbtuneError, match=message):
        read_rows(source)


def test_what_is_held_out():
    rows = [{"prompt": str(n), "response": "a"} for n in range(20)]
    examples = read_examples(rows, Reading())
    train, held = split(examples, Reading(val=0.1), 0)
    assert held is not None
    assert len(train.conversations) == 18
    assert [*train.conversations, *held.conversations] != examples.conversations
    assert sorted(map(str, [*train.conversations, *held.conversations])) == sorted(map(str, examples.conversations))
    train, held = split(examples, Reading(val=rows[:3]), 0)
    assert held is not None
    assert (len(train.conversations), held.conversations) == (20, examples.conversations[:3])
    with pytest.raises(NbtuneError, match="leaves none to train"):
        split(read_examples(rows[:1], Reading()), Reading(val=0.5), 0)


def test_turns_as_a_data_set_hands_them_out_are_read():
    feature = {"from": datasets.Value("string"), "value": datasets.Value("string")}
    rows = datasets.Dataset.from_list(
        [{"conversations": {"from": ["human", "gpt"], "value": ["hi", "hello"]}}],
        features=datasets.Features({"conversations": datasets.Sequence(feature)}),
    )
    assert read_examples(read_rows(rows), Reading()).conversations == [chat("hi", "hello")]


def test_unknown_columns_say_how_to_name_them():
    with pytest.raises(NbtuneError, match="Rename the columns of facts to keyword and answer"):
        read_examples([{"term": "velt", "definition": "a spoon"}], Reading())
