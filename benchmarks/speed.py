"""How fast nbtune is, compared with the usual way: ``python -m benchmarks.speed``.

Every row measures two ways of doing the same thing, one after the other in one process (or each in a fresh process where start-up
counts), several times, and gives the ratio of the medians. The models are the built-in one and, with its tokenizer, random
weights in the shapes of SmolLM2-135M and Qwen3-0.6B; with ``--on qwen3-8b`` also of Qwen3-8B, on a GPU with about 50 GB.
A row that takes more than a minute is measured once, one that takes less than two seconds 25 times. On a GPU, where random
weights are in bfloat16, give the results a name of their own: ``--name speed_gpu``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from textwrap import fill
from typing import Any

import torch
from tqdm import tqdm
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, Qwen3Config

from benchmarks.machine import machine
from benchmarks.speed_rows import DEVICE, ROWS, Row, check_gradients
from nbtune.tiny import WEIGHTS

RESULTS = Path(__file__).parent / "results"
SHAPES: dict[str, Any] = {
    "smollm2-135m": LlamaConfig(
        vocab_size=49152,
        hidden_size=576,
        intermediate_size=1536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    ),
    "qwen3-0.6b": Qwen3Config(
        vocab_size=151936,
        hidden_size=1024,
        intermediate_size=3072,
        num_hidden_layers=28,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40960,
        tie_word_embeddings=True,
    ),
    "qwen3-8b": Qwen3Config(
        vocab_size=151936,
        hidden_size=4096,
        intermediate_size=12288,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=40960,
        tie_word_embeddings=False,
    ),
}
_USUAL = ["tiny", "smollm2-135m", "qwen3-0.6b"]  # without the one that needs a GPU with memory for three times its weights
_LONG = 60.0  # seconds after which a row is not measured again
_SHORT, _OFTEN = 2.0, 25  # a row below 2 seconds is measured 25 times: five measurements of milliseconds say little
_WIDEST = 64  # characters in a line of a label
_WHOLE = 100  # figures from here on are shown without decimals
_ORDER = [row.name for row in ROWS]
_GRADIENTS = 1e-4  # largest relative difference that counts as equal


def built(shape: str, folder: str) -> str:
    """Write a model of random weights into a folder, and return the folder; the built-in model has its own."""
    if shape == "tiny":
        return str(WEIGHTS)
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    config = SHAPES[shape]
    config.eos_token_id, config.pad_token_id, config.bos_token_id = tokenizer.eos_token_id, tokenizer.pad_token_id, None
    dtype = torch.float32 if DEVICE == "cpu" else torch.bfloat16  # as nbtune loads the published ones
    with torch.device(DEVICE):
        AutoModelForCausalLM.from_config(config, dtype=dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def run(shape: str, rows: list[Row], repeats: int | None) -> list[dict[str, Any]]:
    """Measure the rows that apply to a model, after a check that both sides of a fit do equal work."""
    with tempfile.TemporaryDirectory() as place:
        folder = built(shape, place)
        difference = check_gradients(folder)
        if difference > _GRADIENTS:
            raise SystemExit(f"The gradients differ by {difference:.1e} of the largest on {shape}: speeds would compare different work.")
        chosen = [row for row in rows if shape == "tiny" or not row.embedded_only]
        return [{"on": shape, "gradients": difference, **measured(row, folder, repeats)} for row in tqdm(chosen, desc=shape, unit="row")]


def measured(row: Row, folder: str, repeats: int | None) -> dict[str, Any]:
    """Measure one row: a long one once, a short one more often. If it is repeated, the first run is not counted."""
    began, count = time.perf_counter(), repeats or row.repeats
    pairs = [row.measure(folder)]
    if not repeats and row.unit == "s" and sum(pairs[0]) < _SHORT:
        count = max(count, _OFTEN)
    if count > 1 and (repeats or time.perf_counter() - began < _LONG):
        pairs = [row.measure(folder) for _ in range(count)]
    usual, ours = zip(*pairs, strict=True)
    return {"row": row.name, "usual": usual, "ours": ours, "unit": row.unit, "ratio": ratio(row, usual, ours)}


def ratio(row: Row, usual: tuple[float, ...], ours: tuple[float, ...]) -> float:
    """Return the ratio of the medians, usual to ours; ours to usual for a row with an upper bound.

    For a row with `difference`, return ours minus usual.
    """
    one, other = statistics.median(usual), statistics.median(ours)
    if row.difference:
        return other - one
    return other / one if row.at_most else one / other


def verdict(row: Row, found: float) -> str:
    """Return ``"goal"``, ``"floor"`` or ``"missed"``: the highest bound that is reached."""
    reached = [found <= bound if row.at_most else found >= bound for bound in (row.floor, row.goal)]
    return "goal" if reached[1] else "floor" if reached[0] else "missed"


def table(results: list[dict[str, Any]]) -> str:
    """Return all measurements as a Markdown table."""
    lines = ["| on | what | usual | ours | ratio | floor | goal | reached |", "|---" * 8 + "|"]
    by_name = {row.name: row for row in ROWS}
    for found in results:
        row = by_name[found["row"]]
        cells = [f"{_figure(statistics.median(found[way]))} {row.unit} ({_spread(found[way])})" for way in ("usual", "ours")]
        cells += [_ratio(row, found["ratio"]), *_wanted(row), verdict(row, found["ratio"])]
        lines.append(f"| {found['on']} | {row.name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def summary(results: list[dict[str, Any]]) -> str:
    """Return the ratios as a Markdown table with a column per model: bold if the goal is reached, ✗ if the floor is missed."""
    shapes = list(dict.fromkeys(found["on"] for found in results))
    marks = {"goal": "**{}**", "floor": "{}", "missed": "{} ✗"}
    lines = [f"| what | {' | '.join(shapes)} | floor | goal |", "|---" * (len(shapes) + 3) + "|"]
    for row in ROWS:
        ratios = {found["on"]: found["ratio"] for found in results if found["row"] == row.name}
        if ratios:
            cells = [marks[verdict(row, ratios[on])].format(_ratio(row, ratios[on])) if on in ratios else "" for on in shapes]
            lines.append(f"| {' | '.join((row.name, *cells, *_wanted(row)))} |")
    return "\n".join(lines)


def _ratio(row: Row, found: float) -> str:
    if row.difference:
        return f"{_figure(found)} ms"
    return f"{found:.4f}" if row.at_most else _figure(found)  # near 1: with enough decimals to tell it from its bounds


def _wanted(row: Row) -> tuple[str, str]:
    mark = "≤" if row.at_most else "≥"
    return f"{mark} {row.floor:g}", f"{mark} {row.goal:g}"


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= _WHOLE else f"{value:.3g}"


def _spread(values: list[float]) -> str:
    return f"{_figure(min(values))} to {_figure(max(values))}" if len(values) > 1 else "once"


def plot(results: list[dict[str, Any]], path: Path) -> None:
    """Plot the ratios with a lower bound, each with its floor and its goal."""
    from matplotlib.figure import Figure

    by_name = {row.name: row for row in ROWS}
    shown = [found for found in results if not by_name[found["row"]].at_most]
    if not shown:
        return
    figure = Figure(figsize=(10, 0.45 * len(shown) + 1.2), layout="constrained")
    axes = figure.add_subplot()
    places = range(len(shown))
    axes.barh(places, [found["ratio"] for found in shown], color="#0072B2", height=0.6)
    for marker, name, colour in (("|", "floor", "#D55E00"), ("D", "goal", "#009E73")):
        axes.scatter([getattr(by_name[found["row"]], name) for found in shown], places, marker=marker, color=colour, label=name, zorder=3)
    axes.set_yticks(places, [fill(f"{found['row']} ({found['on']})", _WIDEST) for found in shown], fontsize=7)
    axes.margins(y=0.01)
    axes.set(xscale="log", xlabel="times as fast, as small, or as little")
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="lower right")
    figure.savefig(path, dpi=120)


def keep(results: list[dict[str, Any]], name: str) -> None:
    """Write raw results, tables and plot; earlier results that were not measured again stay, with their machine and revision."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    runs = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    again = {(found["on"], found["row"]) for found in results}
    for run in runs:
        run["rows"] = [found for found in run["rows"] if (found["on"], found["row"]) not in again and found["row"] in _ORDER]
    runs = [*(run for run in runs if run["rows"]), {"machine": machine(), "rows": results}]
    path.write_text(json.dumps(runs, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    rows = [found for run in runs for found in run["rows"]]
    rows.sort(key=lambda found: (["tiny", *SHAPES].index(found["on"]), _ORDER.index(found["row"])))
    (RESULTS / f"{name}.md").write_text(table(rows) + "\n", encoding="utf-8")
    (RESULTS / f"{name}_summary.md").write_text(summary(rows) + "\n", encoding="utf-8")
    plot(rows, RESULTS / f"{name}.png")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed", description=__doc__)
    parser.add_argument("--on", nargs="+", default=_USUAL, choices=["tiny", *SHAPES], help="which models (default: %(default)s)")
    parser.add_argument("--rows", nargs="+", choices=[row.measure.__name__ for row in ROWS], help="which rows (default: all)")
    parser.add_argument("--repeats", type=int, help="measurements of each row (default: 5; 1 of a long one, 25 of a short one)")
    parser.add_argument("--name", default="speed", help="name of the result files (default: %(default)s)")
    options = parser.parse_args()
    if DEVICE == "cpu" and not set(options.on) <= set(_USUAL):
        parser.error("qwen3-8b wants a GPU: in single precision its weights take 33 GB.")
    for shape in options.on:
        results = run(shape, [row for row in ROWS if not options.rows or row.measure.__name__ in options.rows], options.repeats)
        keep(results, options.name)  # after each model: the next one takes long, and may be interrupted
        print(table(results))


if __name__ == "__main__":
    main()
