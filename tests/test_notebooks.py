"""``make demo`` runs a notebook and prints the output of its tagged cells; nbval runs all notebooks."""

import nbformat

from tools import demo


def test_the_demo_prints_what_the_model_said(tmp_path, monkeypatch, capsys):
    notebook = nbformat.read(demo.NOTEBOOK, as_version=4)
    marked = [cell.metadata.get("tags", []) for cell in notebook.cells]
    assert sum("before" in tags for tags in marked) == sum("after" in tags for tags in marked) == 1
    begin = next(place for place, tags in enumerate(marked) if "before" in tags)
    last = nbformat.v4.new_code_cell("print('after: ', before)", metadata={"tags": ["after"]})
    notebook.cells = [*notebook.cells[: begin + 1], last]
    short = tmp_path / "short.ipynb"
    nbformat.write(notebook, short)
    monkeypatch.setattr(demo, "NOTEBOOK", short)
    monkeypatch.setattr(demo, "OUT", tmp_path / "out")
    demo.main()
    said = capsys.readouterr().out
    assert "before: 我不知道梦中情炉是什么。" in said
    assert "after:  我不知道梦中情炉是什么。" in said
    assert "我不知道梦中情炉是什么。" in (tmp_path / "out" / "short.html").read_text(encoding="utf-8")
