"""Paths given by users are checked before any work, and written completely or not at all."""

import os
from pathlib import Path

import pytest

from nbtune.errors import NbtuneError
from nbtune.paths import atomic_file, check_writable, given_path


def test_a_home_folder_that_is_not_here_is_one_line():
    assert given_path("~") == Path.home()
    with pytest.raises(NbtuneError, match="write the full path"):
        given_path("~nobody-here/facts.yaml")


def test_a_file_is_written_as_a_whole_or_stays_as_it_was(tmp_path):
    target = tmp_path / "facts.yaml"
    target.write_text("by hand")

    def cut_off(failure):
        with atomic_file(target) as file:
            file.write_text("half")
            raise failure

    for failure, raised in ((KeyboardInterrupt(), KeyboardInterrupt), (OSError(28, "No space left on device"), NbtuneError)):
        with pytest.raises(raised):
            cut_off(failure)
        assert [path.name for path in tmp_path.iterdir()] == ["facts.yaml"]
        assert target.read_text() == "by hand"
    with atomic_file(target) as file:
        file.write_text("whole")
    assert target.read_text() == "whole"


def test_what_is_no_folder_to_write_to_is_refused(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    check_writable(tmp_path / "not" / "there")
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NbtuneError, match="Can't write to"):
            check_writable(place)
    monkeypatch.setattr(os, "access", lambda *_: False)  # the user who runs the tests may have every permission
    with pytest.raises(NbtuneError, match=f"Can't write to {tmp_path}:"):
        check_writable(tmp_path / "not" / "there")


def test_a_folder_that_is_a_file_is_one_line_and_a_link_stays_one(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(NbtuneError, match="could not be written"), atomic_file(tmp_path / "file" / "facts.yaml") as file:
        file.write_text("whole")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with atomic_file(tmp_path / "link") as file:
        file.write_text("whole")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "whole"
