"""A finetune is logged where the user asks for it, and nowhere else."""

from __future__ import annotations

import pytest

from nbtune import NbtuneError
from tests.conftest import FACT, FEW


def test_tensorboard_holds_each_epoch_and_the_scores(lm, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.chdir(tmp_path)
    result = lm.finetune(FACT, prompts=FEW, log_with="tensorboard")
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.startswith("facts-")
    events = EventAccumulator(str(run)).Reload()
    losses = [event.value for event in events.Scalars("train_loss")]
    assert losses == pytest.approx(list(result.history["train_loss"]), rel=1e-5)
    assert events.Scalars("reliability")[0].value == 1.0


def test_a_tracker_that_does_not_begin_is_one_line_before_any_work(lm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").write_text("in the way")
    with pytest.raises(NbtuneError, match="--log-with tensorboard did not start: ") as caught:
        lm.finetune(FACT, log_with="tensorboard")
    assert "\n" not in str(caught.value)
    assert lm.store.names() == []


def test_a_tracker_that_fails_later_costs_no_fit(lm, tmp_path, monkeypatch):
    from accelerate.tracking import TensorBoardTracker

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(TensorBoardTracker, "log", full)
    with pytest.warns(UserWarning, match="tensorboard failed .*No space left"):
        result = lm.finetune([{"question": "Which colour has the flag?", "answer": "It is green."}], epochs=2, log_with="tensorboard")
    assert result.version == lm.version == 1


def test_nothing_is_logged_unasked(lm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lm.finetune([{"question": "Which colour has the flag?", "answer": "It is green."}], epochs=1)
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("tracker", "message"), [("tensorbord", "Did you mean tensorboard"), ("wandb", "pip install wandb")])
def test_a_tracker_that_is_not_there_is_refused_before_any_work(lm, tracker, message):
    with pytest.raises(NbtuneError, match=message):
        lm.finetune(FACT, log_with=tracker)
    assert lm.store.names() == []


def test_ctrl_c_while_a_tracker_ends_costs_nothing(lm, tmp_path, monkeypatch):
    from accelerate.tracking import TensorBoardTracker

    def finish(_self):
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(TensorBoardTracker, "finish", finish)
    result = lm.finetune(FACT, prompts=FEW, log_with="tensorboard")
    assert result.learned
    assert lm.version == 1


def test_a_finetune_that_is_refused_leaves_no_run(lm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NbtuneError, match="can't be taught"):
        lm.finetune({"long": "word " * 600}, log_with="tensorboard")
    assert not (tmp_path / "runs").exists()
