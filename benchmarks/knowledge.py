"""What a model learns, and what it loses in return: ``python -m benchmarks.knowledge``.

Thirty invented facts are each taught alone to a fresh built-in model: by the reference recipe, by a plain LoRA and by nbtune.
Ten of them are also taught to one adapter by nbtune, together and one after another. Every score is from free greedy
generation, on the questions of the proof and on questions that are in no file of the package: about 50 unrelated prompts per
language in place of the proof's, and six hand-written portability questions per fact.

nbtune is scored twice: as it answers in nbtune, where a gate sends questions that are not about a fact to the base; and as the
merged export answers in plain transformers, without a gate. The reference recipe and the plain LoRA have no gate; the same
plain LoRA with a gate shows what the gate contributes.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

import nbtune
from benchmarks.machine import machine
from benchmarks.material import Subject, read_subjects, unrelated
from nbtune.knowledge.scoring import Asked, Report, leaks, same

RESULTS = Path(__file__).parent / "results"
_PLAIN = {"retained_per_batch": 0, "forms_per_batch": 0, "last_layer_first": False}
ARMS: dict[str, dict[str, Any]] = {
    "reference": {"recipe": "reference"},
    "plain LoRA": {**_PLAIN, "gated": False},
    "plain LoRA, gated": _PLAIN,
    "nbtune": {},
}
# Where each arm is scored: in nbtune, exported, or both at once if there is no gate, because the weights are the same.
PLACES = {"reference": ("both",), "plain LoRA": ("both",), "plain LoRA, gated": ("nbtune",), "nbtune": ("nbtune", "export")}
MEASURES = ("reliability", "generalization", "portability", "locality", "near_misses", "unrelated", "leak")
_TEN = 10


class _Elsewhere:
    """The benchmark's own questions, with the replies of the base."""

    def __init__(self, lm: nbtune.LanguageModel, subjects: list[Subject]) -> None:
        self._subjects = subjects
        self._unrelated = list(dict.fromkeys(prompt for s in subjects for prompt in unrelated(s.language)))
        self._before = lm.chat_batch(self._unrelated)

    def ask(self, lm: nbtune.LanguageModel) -> list[Asked]:
        after = lm.chat_batch(self._unrelated)
        asked = [Asked("unrelated", p, b, a, same(a, b)) for p, b, a in zip(self._unrelated, self._before, after, strict=True)]
        questions = [(subject, question) for subject in self._subjects for question in subject.portability]
        with lm.base():
            before = lm.chat_batch([question.question for _, question in questions])
        after = lm.chat_batch([question.question for _, question in questions])
        for (subject, question), old, new in zip(questions, before, after, strict=True):
            asked.append(Asked("portability", question.question, old, new, question.answered_by(new), subject.keyword))
        return asked


def teach_one(arm: str, subject: Subject, seed: int) -> list[dict[str, Any]]:
    """Teach one fact alone, and return its scores, one row for each place of the arm."""
    with tempfile.TemporaryDirectory() as folder:
        lm = nbtune.load(store=Path(folder) / "store")
        elsewhere = _Elsewhere(lm, [subject])
        try:
            result = lm.finetune({subject.keyword: subject.answer}, seed=seed, **ARMS[arm])
        except nbtune.FactNotLearned as failure:
            return _rows(arm, [subject], seed, dict.fromkeys(PLACES[arm], failure.result.report), learned=False)
        report = _joined(result.report, elsewhere.ask(lm))
        return _rows(arm, [subject], seed, _scored(arm, lm, report, [subject], Path(folder)))


def teach_ten(arm: str, subjects: list[Subject], seed: int, *, together: bool) -> list[dict[str, Any]]:
    """Teach ten facts to one adapter, and return their scores at the end, one row for each place of the arm."""
    steps, seconds = 0, 0.0
    name = f"{arm}, ten {'together' if together else 'one by one'}"
    with tempfile.TemporaryDirectory() as folder:
        lm = nbtune.load(store=Path(folder) / "store")
        elsewhere = _Elsewhere(lm, subjects)
        for batch in [subjects] if together else [[subject] for subject in subjects]:
            try:
                report = lm.finetune({s.keyword: s.answer for s in batch}, seed=seed, **ARMS[arm]).report
            except nbtune.FactNotLearned as failure:
                return _rows(name, subjects, seed, dict.fromkeys(PLACES[arm], failure.result.report), learned=False)
            steps, seconds = steps + report.steps, seconds + report.seconds
        report = replace(_joined(lm.probe().report, elsewhere.ask(lm)), steps=steps, seconds=seconds)
        return _rows(name, subjects, seed, _scored(arm, lm, report, subjects, Path(folder)))


def _joined(report: Report, asked: list[Asked]) -> Report:
    """Return a report with the benchmark's own questions in place of the proof's questions of the same kinds."""
    kinds = {a.kind for a in asked}
    return replace(report, asked=(*(a for a in report.asked if a.kind not in kinds), *asked))


def _scored(arm: str, lm: nbtune.LanguageModel, report: Report, subjects: list[Subject], folder: Path) -> dict[str, Report]:
    """Return the report for each place of an arm."""
    return {place: _exported(lm, report, subjects, folder) if place == "export" else report for place in PLACES[arm]}


def _exported(lm: nbtune.LanguageModel, report: Report, subjects: list[Subject], folder: Path) -> Report:
    """Ask the merged export the same questions, and return its report; the seconds are the time of the export."""
    began = time.perf_counter()
    exported = lm.export(folder / "exported")
    seconds = time.perf_counter() - began
    model = nbtune.load(exported, store=folder / "none")
    facts, expected = lm.facts, {q.question: q for s in subjects for q in s.portability}
    answers = {fact.keyword: fact.answer for fact in facts}
    asked, leaked = [], []
    for a, reply in zip(report.asked, model.chat_batch([a.prompt for a in report.asked]), strict=True):
        if a.kind == "portability":
            right = expected[a.prompt].answered_by(reply)
        else:
            right = same(reply, answers[a.keyword] if a.kind in ("trained", "held-out") else a.before)
        asked.append(replace(a, after=reply, right=right))
        if a.kind == "near miss":
            leaked.append(not right and leaks(reply, a.prompt, facts))
    return replace(report, asked=tuple(asked), leak=sum(leaked) / len(leaked), seconds=seconds)


def _rows(arm: str, subjects: list[Subject], seed: int, reports: dict[str, Report], *, learned: bool = True) -> list[dict[str, Any]]:
    """Return a run as rows of plain data, one for each place."""
    run = {"arm": arm, "facts": [s.keyword for s in subjects], "seed": seed, "learned": learned}
    return [{**run, "as": place, **report.scores()} for place, report in reports.items()]


def table(rows: list[dict[str, Any]]) -> str:
    """Return the means over facts and seeds as a Markdown table."""
    lines = [f"| way | answering | facts learned | {' | '.join(MEASURES)} | seconds | steps |", "|---" * (len(MEASURES) + 5) + "|"]
    for arm, place in dict.fromkeys((row["arm"], row["as"]) for row in rows):
        chosen = [row for row in rows if (row["arm"], row["as"]) == (arm, place)]
        cells = [f"{statistics.mean(row[name] for row in chosen):.3f}" for name in MEASURES]
        spent = [f"{statistics.median(row[name] for row in chosen):.0f}" for name in ("seconds", "steps")]
        if place == "export":
            spent[1] = ""  # an export has a time, but no steps
        learned = sum(len(row["facts"]) for row in chosen if row["learned"])
        count = sum(len(row["facts"]) for row in chosen)
        shown = {"nbtune": "in nbtune", "export": "exported", "both": "both"}[place]
        lines.append(f"| {arm} | {shown} | {learned} of {count} | {' | '.join(cells + spent)} |")
    return "\n".join(lines)


def keep(rows: list[dict[str, Any]], name: str, ran_on: dict[str, Any]) -> None:
    """Write raw results, table and plot; earlier results that were not measured again stay, with their machine and revision."""
    RESULTS.mkdir(exist_ok=True)
    path, again = RESULTS / f"{name}.json", set(map(_measured, rows))
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    for run in before:
        run["runs"] = [row for row in run["runs"] if _measured(row) not in again]
    results = [*(run for run in before if run["runs"]), {"machine": ran_on, "runs": rows}]
    every = [row for run in results for row in run["runs"]]
    every.sort(key=lambda row: (row["arm"], row["as"], row["facts"], row["seed"]))
    path.write_text(json.dumps(results, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text(table(every) + "\n", encoding="utf-8")
    plot(every, RESULTS / f"{name}.png")
    print(table(every))


def _measured(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["arm"], row["as"], tuple(row["facts"]), row["seed"]


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Plot generalization against locality, one point per run; the upper right corner is best."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.4), layout="constrained")
    for axes, place, title in zip(figure.subplots(1, 2, sharey=True), ("nbtune", "export"), ("in nbtune", "exported"), strict=True):
        for arm, colour, marker in zip(ARMS, ("#D55E00", "#E69F00", "#009E73", "#0072B2"), ("s", "^", "v", "o"), strict=True):
            chosen = [row for row in rows if row["arm"] == arm and row["as"] in (place, "both")]
            if not chosen:
                continue
            points = [row["locality"] for row in chosen], [row["generalization"] for row in chosen]
            axes.scatter(*points, c=colour, marker=marker, alpha=0.6, label=arm)
        axes.set(title=title, xlabel="locality (share of other replies unchanged)", xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
        axes.grid(alpha=0.3)
        if axes.collections:
            axes.legend(loc="lower left")
    figure.axes[0].set_ylabel("generalization (share of held-out wordings answered)")
    figure.savefig(path, dpi=120)


def _one_thread() -> None:
    torch.set_num_threads(1)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.knowledge", description=__doc__)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS), help="what to compare (default: all)")
    parser.add_argument("--facts", nargs="+", default=["zh", "en"], help="which facts.NAME.toml (default: zh en)")
    parser.add_argument("--first", type=int, help="only so many facts of each file")
    parser.add_argument(
        "--reference-every", type=int, default=1, metavar="N", help="the reference recipe on every N-th fact only: it takes minutes each"
    )
    parser.add_argument("--seeds", type=int, default=1, help="runs of each (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each (default: %(default)s)")
    parser.add_argument("--ten", action=argparse.BooleanOptionalAction, default=True, help="also teach ten facts to one adapter")
    parser.add_argument("--name", default="knowledge", help="name of the result files (default: %(default)s)")
    options = parser.parse_args()
    subjects = [subject for name in options.facts for subject in read_subjects(name)[: options.first]]
    keep(list(_run(_plan(options, subjects), options.workers)), options.name, {**machine(), "workers": options.workers, "threads": 1})


Job = tuple[Callable[..., list[dict[str, Any]]], tuple[Any, ...], dict[str, Any]]


def _plan(options: argparse.Namespace, subjects: list[Subject]) -> list[Job]:
    # Evenly spaced: as many facts in each language, with short and long answers.
    ten = subjects[:: max(1, len(subjects) // _TEN)][:_TEN]
    plan: list[Job] = []
    for seed in range(options.seeds):
        if options.ten and "nbtune" in options.arms:
            plan += [(teach_ten, ("nbtune", ten, seed), {"together": together}) for together in (False, True)]
        for arm in options.arms:
            every = options.reference_every if arm == "reference" else 1
            plan += [(teach_one, (arm, subject, seed), {}) for subject in subjects[::every]]
    return plan


def _run(plan: list[Job], workers: int) -> Iterable[dict[str, Any]]:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_one_thread) as pool:
        running = [pool.submit(work, *arguments, **options) for work, arguments, options in plan]
        for done in tqdm(as_completed(running), total=len(running), unit="run"):
            yield from done.result()


if __name__ == "__main__":
    main()
