"""Adapters on disk survive crashes, damage and concurrent writes."""

import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import LoraConfig

from nbtune.errors import NbtuneError
from nbtune.knowledge import store
from nbtune.knowledge.durable import flush_names
from nbtune.knowledge.facts import Fact
from nbtune.knowledge.store import Store
from nbtune.knowledge.version import DamagedError, Version, _digest, write_version
from nbtune.model.adapter import Adapter


def version(value=1.0, keyword="炉", fingerprint="f" * 16):
    weights = {"base_model.model.x.lora_A.weight": torch.full((4, 8), value)}
    config = LoraConfig(r=4, target_modules=["x"], task_type="CAUSAL_LM")
    fact = Fact.new(keyword, "hot").with_proof("verified", {"reliability": 1.0, "generalization": 1.0})
    return Version((fact,), "lora", "tiny", fingerprint, (Adapter(config, weights),), report={"reliability": 1.0})


def value_of(loaded, place=-1):
    (tensor,) = loaded.adapters[place].weights.values()
    return tensor.unique().item()


def with_more(loaded, *values):
    """Return a version with more facts than another."""
    more = [version(value, keyword=f"k{value}") for value in values]
    facts = (*loaded.facts, *(one.facts[0] for one in more))
    return replace(loaded, facts=facts, adapters=(*loaded.adapters, *(one.adapters[0] for one in more)))


def names_below(folder):
    return {path.name for path in (folder / "facts").iterdir()}


def revert(store):
    store.restore("a", store.before("a", "f" * 16).number)


def test_commit_load_revert(tmp_path):
    store = Store(tmp_path / "s")
    assert store.names() == []
    assert store.commit("a", version(1.0)).number == 1
    second = store.commit("a", version(2.0))
    assert (second.number, second.parent, store.names()) == (2, 1, ["a"])
    assert value_of(store.load("a", "f" * 16)) == 2.0
    assert store.load("a", "f" * 16).facts == second.facts
    revert(store)
    assert value_of(store.load("a", "f" * 16)) == 1.0
    assert store.commit("a", version(3.0)).number == 3
    assert store.load("a", "f" * 16).parent == 1
    revert(store)
    revert(store)
    assert store.load("a", "f" * 16).facts == ()
    with pytest.raises(NbtuneError, match="nothing to undo"):
        store.before("a", "f" * 16)


def test_only_new_adapters_are_written_and_old_ones_stay_where_they_are(tmp_path):
    store = Store(tmp_path)
    first = store.commit("a", version(1.0))
    second = store.commit("a", with_more(first, 2.0, 3.0))
    assert [place.folder for place in second.places] == ["v0001", "v0002", "v0002/2"]
    assert [value_of(second, at) for at in range(3)] == [1.0, 2.0, 3.0]
    third = store.commit("a", second.without({"k2.0"}))
    assert not list(third.folder.glob("**/*.safetensors")), "forgetting writes no weights"
    loaded = store.load("a", "f" * 16)
    assert [fact.keyword for fact in loaded.facts] == ["炉", "k3.0"]
    assert [value_of(loaded, at) for at in range(2)] == [1.0, 3.0]
    assert store.load("a", "f" * 16, held={"v0001": "in memory"}).adapters[0] == "in memory"


def test_an_adapter_of_an_earlier_version_that_was_changed_is_refused(tmp_path):
    store = Store(tmp_path)
    first = store.commit("a", version(1.0))
    store.commit("a", with_more(first, 2.0))
    path = first.folder / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(NbtuneError, match=r"v0001/adapter_model\.safetensors was changed after it was saved"):
        store.load("a", "f" * 16)
    store.commit("a", version(3.0))
    store.commit("a", with_more(first, 4.0))
    revert(store)
    assert value_of(store.load("a", "f" * 16)) == 3.0
    revert(store)
    assert store.load("a", "f" * 16).facts == (), "both versions before it hold the adapter that was changed"


def test_undo_reads_only_what_is_not_in_memory(tmp_path):
    store = Store(tmp_path)
    store.commit("a", version(1.0))
    second = store.commit("a", version(2.0))
    store.restore("a", 1)
    third = store.commit("a", version(3.0))
    assert store.before("a", "f" * 16, second).number == 1, "another process went on: the version in memory is not the one in force"
    (third.folder / "nbtune.json").unlink()
    assert store.before("a", "f" * 16, third).number == 1
    assert store.before("a", "f" * 16).number == 2, "without its notes nobody knows what it was made from"


def test_redo_goes_to_the_newest_whole_version_made_from_the_one_in_force(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(NbtuneError, match="nothing to redo"):
        store.after("a", "f" * 16)
    store.commit("a", version(1.0))
    second = store.commit("a", version(2.0))
    store.restore("a", 1)
    third = store.commit("a", version(3.0))
    with pytest.raises(NbtuneError, match="nothing to redo"):
        store.after("a", "f" * 16)
    store.restore("a", 1)
    assert store.after("a", "f" * 16, second).number == 3
    (third.folder / "adapter_model.safetensors").write_bytes(b"")
    assert store.after("a", "f" * 16).number == 2
    store.restore("a", 0)
    assert store.after("a", "f" * 16).number == 1
    (store.folder / "a" / "v0001" / "adapter_model.safetensors").write_bytes(b"")
    assert store.after("a", "f" * 16).number == 2, "an undo from there steps over what is damaged"
    with pytest.raises(NbtuneError, match="made for tiny"):
        store.after("a", "b" * 16)


@pytest.mark.parametrize("written", ["1 ", "1", "", "12 13", "1 1 1", "1!1", "-1 -1", "0x1 0x1", "\ufffd 1"])
def test_a_pointer_that_was_changed_is_refused(tmp_path, written):
    store = Store(tmp_path)
    for _ in range(13):
        store.commit("a", version(1.0))
    store.restore("a", 12)
    assert (tmp_path / "a" / "current").read_text() == "12 12"
    (tmp_path / "a" / "current").write_text(written, encoding="utf-8")
    with pytest.raises(NbtuneError, match="current is damaged"):
        store.load("a", "f" * 16)
    with pytest.raises(NbtuneError, match="current is damaged"):
        store.commit("a", version(2.0))


def test_undo_under_another_model_changes_nothing(tmp_path):
    store = Store(tmp_path)
    for value in (1.0, 2.0):
        store.commit("a", version(value))
    with pytest.raises(NbtuneError, match="made for tiny"):
        store.before("a", "b" * 16)


def test_an_adapter_can_not_lie_outside(tmp_path):
    store = Store(tmp_path / "s")
    folder = store.commit("a", version()).folder
    notes = json.loads((folder / "nbtune.json").read_text(encoding="utf-8"))
    for place in ("../b", "/tmp", "v0001/../../b", ""):
        del notes["digest"]
        notes["adapters"][0]["folder"] = place
        notes["digest"] = _digest(notes)
        (folder / "nbtune.json").write_text(json.dumps(notes), encoding="utf-8")
        with pytest.raises(NbtuneError, match="not an adapter's folder"):
            store.load("a", "f" * 16)


def test_whether_it_is_gated_is_kept(tmp_path):
    store = Store(tmp_path)
    store.commit("a", version())
    store.commit("b", replace(version(), gated=False))
    assert store.load("a", "f" * 16).gated
    assert not store.load("b", "f" * 16).gated


def test_a_change_by_another_process_is_noticed(tmp_path):
    store = Store(tmp_path)
    store.commit("a", version(1.0))
    store.commit("a", version(2.0))
    with pytest.raises(NbtuneError, match="changed by another process"):
        store.commit("a", version(3.0), parent=1)
    assert value_of(store.load("a", "f" * 16)) == 2.0


def test_a_changed_answer_is_noticed(tmp_path):
    store = Store(tmp_path)
    path = store.commit("a", version()).folder / "nbtune.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"hot"', '"hit"'), encoding="utf-8")
    with pytest.raises(NbtuneError, match="damaged"):
        store.load("a", "f" * 16)


def test_the_folder_is_a_plain_peft_folder(tmp_path):
    from peft import PeftConfig
    from safetensors.torch import load_file

    folder = Store(tmp_path).commit("a", version()).folder
    assert sorted(p.name for p in folder.iterdir()) == ["README.md", "adapter_config.json", "adapter_model.safetensors", "nbtune.json"]
    assert PeftConfig.from_pretrained(folder).r == 4
    assert len(load_file(folder / "adapter_model.safetensors")) == 1
    assert "炉" in (folder / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "name", ["../x", "/tmp/x", "a/b", "..", ".", "", "a\\b", "-x", "a\0b", "x" * 99, "a..b", "con.", "_x", "a b", "none"]
)
def test_names_that_are_paths_are_refused(tmp_path, name):
    store = Store(tmp_path / "s")
    for action in (lambda: store.commit(name, version()), lambda: store.load(name, "f" * 16), lambda: store.current(name)):
        with pytest.raises(NbtuneError, match="is not a valid adapter name"):
            action()
    assert list(tmp_path.iterdir()) == []


def test_another_base_is_refused(tmp_path):
    Store(tmp_path).commit("a", version(fingerprint="a" * 16))
    with pytest.raises(NbtuneError, match="made for tiny"):
        Store(tmp_path).load("a", "b" * 16)


def test_a_missing_adapter_has_a_hint(tmp_path):
    Store(tmp_path).commit("kitchen", version())
    with pytest.raises(NbtuneError, match="Did you mean kitchen"):
        Store(tmp_path).load("kitchn", "f" * 16)


def test_flipped_bits_and_cut_files_are_refused(tmp_path):
    store, rng = Store(tmp_path / "s"), random.Random(1)
    folder = store.commit("a", version()).folder
    whole = {path.name: path.read_bytes() for path in folder.iterdir()}
    for _ in range(150):
        name = rng.choice(["adapter_config.json", "adapter_model.safetensors"])
        data = bytearray(whole[name])
        if rng.random() < 0.3:
            data = data[: rng.randrange(len(data))]
        else:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (folder / name).write_bytes(data)
        with pytest.raises(NbtuneError, match="was changed after it was saved"):
            store.load("a", "f" * 16)
        (folder / name).write_bytes(whole[name])
    for cut in range(0, len(whole["nbtune.json"]) - 2, 97):
        (folder / "nbtune.json").write_bytes(whole["nbtune.json"][:cut])
        with pytest.raises(NbtuneError, match="damaged"):
            store.load("a", "f" * 16)
    (folder / "nbtune.json").write_bytes(whole["nbtune.json"])
    (folder / "adapter_model.safetensors").unlink()
    with pytest.raises(NbtuneError, match="is missing"):
        store.load("a", "f" * 16)


def test_a_model_card_may_be_edited(tmp_path):
    store = Store(tmp_path)
    card = store.commit("a", version(1.0)).folder / "README.md"
    card.write_text("# Mine now")
    assert value_of(store.load("a", "f" * 16)) == 1.0
    card.unlink()
    assert value_of(store.load("a", "f" * 16)) == 1.0


def test_undo_gets_past_a_damaged_version(tmp_path):
    store = Store(tmp_path)
    store.commit("a", version(1.0))
    folder = store.commit("a", version(2.0)).folder
    (folder / "nbtune.json").write_text("{")
    revert(store)
    assert value_of(store.load("a", "f" * 16)) == 1.0


def test_a_pointer_to_a_version_that_is_not_there_says_the_way_out_and_takes_it(tmp_path):
    store = Store(tmp_path)
    store.commit("a", version(1.0))
    (tmp_path / "a" / "current").write_text("2 2")  # the folder of this version was removed
    with pytest.raises(NbtuneError, match="%nbtune undo"):
        store.load("a", "f" * 16)
    revert(store)
    assert value_of(store.load("a", "f" * 16)) == 1.0


def test_a_checksum_can_not_point_outside(tmp_path):
    store = Store(tmp_path / "s")
    folder = store.commit("a", version()).folder
    ours = json.loads((folder / "nbtune.json").read_text())
    del ours["digest"]
    ours["adapters"][0]["checksums"]["../../../secret"] = "0" * 64
    ours["digest"] = _digest(ours)
    (folder / "nbtune.json").write_text(json.dumps(ours))
    (tmp_path / "secret").write_text("x")
    with pytest.raises(NbtuneError, match="is missing"):
        store.load("a", "f" * 16)


WRITER = """
import sys
sys.path.insert(0, {tests!r})
from test_store import Store, version
store = Store({folder!r})
n = 0
while True:
    n += 1
    print(store.commit("a", version(float(n))).number, flush=True)
"""


def test_sigkill_during_saves_never_tears_a_version(tmp_path):
    store, rng, last = Store(tmp_path / "s"), random.Random(2), 0
    for _ in range(5):
        code = WRITER.format(tests=str(Path(__file__).parent), folder=str(tmp_path / "s"))
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
            process.stdout.readline()
            time.sleep(rng.uniform(0.02, 0.3))
            process.send_signal(signal.SIGKILL)
            said = [int(line) for line in process.stdout.read().split()]
        loaded = store.load("a", "f" * 16)
        assert loaded.number >= max([last, *said])
        assert loaded.facts[0].keyword == "炉"
        last = loaded.number


def test_a_full_disk_leaves_the_version_before_in_force(tmp_path):
    Store(tmp_path / "s").commit("a", version(1.0))
    code = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_store import Store, version
from nbtune.errors import NbtuneError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    Store({str(tmp_path / "s")!r}).commit("a", version(2.0))
except NbtuneError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "was not saved" in done.stdout
    assert value_of(Store(tmp_path / "s").load("a", "f" * 16)) == 1.0
    assert [p.name for p in (tmp_path / "s" / "a").iterdir() if p.name.startswith(".")] == []


def test_two_writers_never_mix_and_neither_loses_what_the_other_saved(tmp_path):
    code = f"""
import sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_store import NbtuneError, Store, version
store, saved = Store({str(tmp_path / "s")!r}), 0
while saved < 25:
    try:
        store.commit("a", version(float(sys.argv[1]), keyword="k" + sys.argv[1]))
        saved += 1
    except NbtuneError as error:
        assert "changed by another process" in str(error), error
"""
    writers = [subprocess.Popen([sys.executable, "-c", code, str(n)]) for n in (1, 2)]
    assert [writer.wait() for writer in writers] == [0, 0]
    store = Store(tmp_path / "s")
    for number in range(1, 51):
        loaded = store.load("a", "f" * 16, number)
        assert loaded.facts[0].keyword == f"k{value_of(loaded):.0f}"
        assert loaded.parent == number - 1
    assert not [path for path in (tmp_path / "s" / "a").iterdir() if path.name.startswith(".")]


def test_a_store_that_can_not_be_written_says_so(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(NbtuneError, match="was not saved"):
        Store(tmp_path / "file").commit("a", version())


def test_a_change_while_a_version_is_written_is_noticed(tmp_path, monkeypatch):
    ours, theirs = Store(tmp_path), Store(tmp_path)
    first = ours.commit("facts", version())

    def meanwhile(*arguments):
        monkeypatch.undo()
        theirs.commit("facts", first, 1)
        return write_version(*arguments)

    monkeypatch.setattr(store, "write_version", meanwhile)
    with pytest.raises(NbtuneError, match="changed by another process"):
        ours.commit("facts", first, 1)
    assert ours.current("facts") == 2
    assert sorted(path.name for path in (tmp_path / "facts").iterdir()) == ["v0001", "v0002"]


@pytest.mark.parametrize("raised", [KeyboardInterrupt(), OSError(5, "Input/output error")])
@pytest.mark.parametrize("undone", [False, True])
@pytest.mark.parametrize("flushes", [1, 2])
def test_what_fails_behind_the_rename_is_not_in_force(tmp_path, monkeypatch, raised, undone, flushes):
    kept = Store(tmp_path)
    first = kept.commit("facts", version(1.0))
    if undone:
        kept.commit("facts", version(2.0))
        kept.restore("facts", 1)
    before, left = names_below(tmp_path), flushes

    def flushed(folder):
        nonlocal left
        left -= 1
        if not left:
            monkeypatch.undo()
            raise raised

    monkeypatch.setattr(store, "flush_names", flushed)
    if flushes == 2 and not undone:
        assert kept.commit("facts", first, 1).number == 2, "one flush does where no undo came before"
        return
    with pytest.raises((KeyboardInterrupt, NbtuneError)):
        kept.commit("facts", first, 1)
    assert kept.current("facts") == 1
    assert names_below(tmp_path) == before


def test_all_of_a_version_is_on_the_disk_before_it_is_in_place(tmp_path, monkeypatch):
    kept, steps, fsync, rename = Store(tmp_path), [], os.fsync, os.rename
    kept.commit("facts", version(1.0))

    def flushed(handle):
        steps.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        fsync(handle)

    def renamed(*arguments):
        steps.append("rename")
        rename(*arguments)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "rename", renamed)
    kept.commit("facts", version(2.0))
    written, temporary = steps[: steps.index("rename") - 1], steps[steps.index("rename") - 1]
    assert sorted(written) == ["adapter_config.json", "adapter_model.safetensors", "nbtune.json"]
    assert temporary.startswith(".writing-"), "the names in the folder"
    assert steps[steps.index("rename") + 1 :] == ["facts"]


@pytest.mark.parametrize(("number", "refused"), [(22, False), (95, False), (5, True)])
def test_a_disk_that_knows_no_flush_of_folders_is_no_error_and_one_that_fails_is(tmp_path, monkeypatch, number, refused):
    def flushed(_handle):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", flushed)
    with pytest.raises(OSError, match="error") if refused else nullcontext():
        flush_names(tmp_path)


def test_a_version_of_another_nbtune_is_not_called_damaged(tmp_path):
    folder = Store(tmp_path).commit("a", version()).folder
    notes = json.loads((folder / "nbtune.json").read_text())
    del notes["digest"]
    notes["format"] = 99
    notes["digest"] = _digest(notes)
    (folder / "nbtune.json").write_text(json.dumps(notes))
    with pytest.raises(NbtuneError, match=r"written by another version of nbtune \(format 99") as caught:
        Store(tmp_path).load("a", "f" * 16)
    assert not isinstance(caught.value, DamagedError), "an undo would step over it"


DIES = """
import os, sys
sys.path.insert(0, {tests!r})
from test_store import Store, version
left = int(sys.argv[1])
def dying(call):
    def called(*arguments, **options):
        global left
        left -= 1
        if left < 0:
            os._exit(9)
        return call(*arguments, **options)
    return called
store = Store({folder!r})
for name in ("fsync", "rename", "replace", "unlink", "mkdir"):
    setattr(os, name, dying(getattr(os, name)))
store.commit("a", version(2.0))
os._exit(0)
"""


@pytest.mark.parametrize("undone", [False, True])
def test_a_kill_at_any_step_of_a_save_leaves_one_whole_version_in_force(tmp_path, undone):
    before, ended = Store(tmp_path / "kept"), 9
    before.commit("a", version(1.0))
    if undone:
        before.commit("a", version(5.0))
        before.restore("a", 1)
    steps = itertools.count()
    while ended == 9:
        folder = shutil.copytree(tmp_path / "kept", tmp_path / f"s{(step := next(steps))}")
        code = DIES.format(tests=str(Path(__file__).parent), folder=str(folder))
        ended = subprocess.run([sys.executable, "-c", code, str(step)], timeout=600, check=False).returncode
        assert value_of(Store(folder).load("a", "f" * 16)) in {1.0, 2.0}
        Store(folder).commit("a", version(3.0))
        assert value_of(Store(folder).load("a", "f" * 16)) == 3.0, "what is left over hinders nothing"
    assert ended == 0
    assert step > 6


def test_a_commit_behind_an_undo_is_in_force(tmp_path):
    kept = Store(tmp_path)
    kept.commit("a", version(1.0))
    kept.commit("a", version(2.0))
    revert(kept)
    assert kept.current("a") == 1
    third = kept.commit("a", version(3.0), 1)
    assert (third.number, third.parent, kept.current("a")) == (3, 1, 3)
    assert not (tmp_path / "a" / "current").exists()


def test_an_undo_at_the_last_moment_is_a_change(tmp_path, monkeypatch):
    ours, theirs = Store(tmp_path), Store(tmp_path)
    ours.commit("facts", version(1.0))
    second, rename = ours.commit("facts", version(2.0)), os.rename

    def meanwhile(*arguments):
        monkeypatch.undo()
        theirs.restore("facts", 1)
        rename(*arguments)

    monkeypatch.setattr(store.os, "rename", meanwhile)
    with pytest.raises(NbtuneError, match="changed by another process"):
        ours.commit("facts", second, 2)
    assert value_of(ours.load("facts", "f" * 16)) == 1.0
    assert names_below(tmp_path) == {"v0001", "v0002", "current"}


def test_what_looks_like_a_version_is_none(tmp_path):
    kept = Store(tmp_path)
    kept.commit("facts", version(1.0))
    (tmp_path / "notes" / "v2").mkdir(parents=True)
    (tmp_path / "facts" / "v0009").write_text("a file")
    (tmp_path / "facts" / "v3").mkdir()
    assert (kept.names(), kept.current("facts")) == (["facts"], 1)


def test_a_number_that_is_taken_at_the_last_moment_is_a_change(tmp_path, monkeypatch):
    ours, theirs = Store(tmp_path), Store(tmp_path)
    first, rename = ours.commit("facts", version(1.0)), os.rename

    def meanwhile(*arguments):
        monkeypatch.undo()
        theirs.commit("facts", first, 1)
        rename(*arguments)

    monkeypatch.setattr(store.os, "rename", meanwhile)
    with pytest.raises(NbtuneError, match="changed by another process"):
        ours.commit("facts", version(2.0), 1)
    assert value_of(ours.load("facts", "f" * 16)) == 1.0
    assert names_below(tmp_path) == {"v0001", "v0002"}


@pytest.mark.parametrize("unreadable", ["current", "v0001/nbtune.json", "v0001/adapter_config.json"])
def test_what_the_disk_does_not_give_is_one_line(tmp_path, monkeypatch, unreadable):
    kept = Store(tmp_path)
    kept.commit("facts", version())
    open_ = Path.open

    def opened(path, *arguments, **options):
        if str(path).endswith(unreadable):
            raise OSError(107, "Transport endpoint is not connected")  # a disconnected drive
        return open_(path, *arguments, **options)

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(NbtuneError, match=r"can't be read \(Transport endpoint is not connected\)") as caught:
        kept.load("facts", "f" * 16)
    assert not isinstance(caught.value, DamagedError), "an undo would step over it"


def test_a_store_that_is_gone_is_one_line(tmp_path, monkeypatch):
    def gone(_path):
        raise OSError(107, "Transport endpoint is not connected")

    monkeypatch.setattr(Path, "is_dir", gone)
    with pytest.raises(NbtuneError, match=r"can't be read \(Transport endpoint is not connected\)"):
        Store(tmp_path).names()


def test_a_first_version_that_fails_behind_the_rename_leaves_no_adapter(tmp_path, monkeypatch):
    kept, rename = Store(tmp_path), os.rename

    def renamed(*arguments):
        rename(*arguments)
        monkeypatch.undo()
        raise KeyboardInterrupt

    monkeypatch.setattr(store.os, "rename", renamed)
    with pytest.raises(KeyboardInterrupt):
        kept.commit("facts", version())
    assert (kept.names(), kept.current("facts")) == ([], 0)
