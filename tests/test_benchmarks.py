"""The speed benchmark compares equal work, and reports which bound each row reaches."""

import json

import pytest

from benchmarks import knowledge, speed
from benchmarks.speed import keep, ratio, summary, table, verdict
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
        ("loop", (1.0,) * 5, (1.01,) * 5, "goal"),
        ("loop", (1.0,) * 5, (1.2,) * 5, "missed"),
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


def test_a_shape_that_wants_a_gpu_is_refused_without_one(monkeypatch, capsys):
    monkeypatch.setattr(speed, "DEVICE", "cpu")
    monkeypatch.setattr(speed, "built", lambda *_: pytest.fail("it began to build a model"))
    monkeypatch.setattr("sys.argv", ["speed", "--on", "tiny", "qwen3-8b"])
    with pytest.raises(SystemExit):
        speed.main()
    assert "qwen3-8b wants a GPU" in capsys.readouterr().err


def test_what_is_measured_anew_takes_its_place_and_the_rest_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, "RESULTS", tmp_path)
    first, second = ROWS[1], ROWS[3]

    def found(row, on, took):
        return {"on": on, "row": row.name, "usual": [took], "ours": [1.0], "unit": "s", "ratio": took}

    before = [found(first, "tiny", 7.0), found(second, "tiny", 3.0), {**found(first, "tiny", 9.0), "row": "a row of old"}]
    (tmp_path / "speed.json").write_text(json.dumps([{"machine": {"revision": "of old"}, "rows": before}]))
    keep([found(second, "tiny", 4.0), found(first, "smollm2-135m", 6.0)], "speed")
    runs = json.loads((tmp_path / "speed.json").read_text())
    assert [[(row["on"], row["row"], row["ratio"]) for row in run["rows"]] for run in runs] == [
        [("tiny", first.name, 7.0)],
        [("tiny", second.name, 4.0), ("smollm2-135m", first.name, 6.0)],
    ]
    assert runs[0]["machine"]["revision"] == "of old" != runs[1]["machine"]["revision"]
    kept = (tmp_path / "speed.md").read_text().splitlines()[2:]
    assert [line.split(" | ")[0].strip("| ") for line in kept] == ["tiny", "tiny", "smollm2-135m"]


def test_ways_that_are_not_taught_anew_stay_in_the_table(tmp_path, monkeypatch):
    monkeypatch.setattr(knowledge, "RESULTS", tmp_path)

    def found(arm, share):
        scores = dict.fromkeys((*knowledge.MEASURES, "seconds", "steps"), share)
        return {"arm": arm, "facts": ["velt"], "seed": 0, "learned": True, "as": "nbtune", **scores}

    knowledge.keep([found("nbtune", 0.25), found("plain LoRA", 0.5)], "knowledge", {"revision": "of old"})
    knowledge.keep([found("nbtune", 0.75)], "knowledge", {"revision": "of now"})
    runs = json.loads((tmp_path / "knowledge.json").read_text())
    by_revision = {run["machine"]["revision"]: [row["arm"] for row in run["runs"]] for run in runs}
    assert by_revision == {"of old": ["plain LoRA"], "of now": ["nbtune"]}
    assert [line.split(" | ")[3] for line in (tmp_path / "knowledge.md").read_text().splitlines()[2:]] == ["0.750", "0.500"]
