"""``%nbtune COMMAND``: manages the model, its facts and its adapters."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_magic, magics_class, needs_local_scope, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments
from IPython.utils.text import DollarFormatter

from nbtune.display.shown import counted, say
from nbtune.errors import NbtuneError, did_you_mean, interrupts_in_a_line
from nbtune.inert import inert
from nbtune.magics.options import parse, unquoted
from nbtune.magics.reading import asking_options, reading_of, reading_options
from nbtune.magics.watching import run_with_progress
from nbtune.session import Nbtune
from nbtune.variables import source_of

if TYPE_CHECKING:
    from pathlib import Path

    from nbtune.display.shown import Shown
    from nbtune.knowledge.store import Store
    from nbtune.panels import Panels

__all__ = ["COMMANDS", "PANELS", "NbtuneMagics"]

COMMANDS = {
    "status": "what is loaded and in use",
    "model": "NAME_OR_PATH [--dtype D] [--device D] [--quantize int8|nf4] [--revision R]: load another causal language model",
    "data": "SOURCE ...: preview a data set before training: format, lengths in tokens, what is cut or can't be used, five examples",
    "evaluate": "SOURCE [--limit N] [--max-new-tokens N] [--save FILE] ...: answer examples with the base and the adapter in use, and "
    "score both (exact match, chrF, BLEU-4, ROUGE)",
    "facts": "[--save FILE]: the facts of the adapter in use, with standing and scores; or write them to a `.yaml` file to edit and diff",
    "probe": "[KEYWORD]: repeat the tests of one fact, or of all, and compare with the base",
    "tokens": "KEYWORD: show which tokens of each example are trained",
    "adapters": "the adapters in the store",
    "use": "ADAPTER|none: answer with this adapter, or with the base",
    "forget": "KEYWORD: forget one fact; the others stay",
    "rebuild": "[FILE]: train the adapter again from its facts, or from only those in a file",
    "undo": "[ADAPTER]: go back to the previous version",
    "redo": "[ADAPTER]: reverse an undo",
    "export": "FOLDER [--as KIND] [--max-shard-size SIZE]: write a model for other programs: `--as transformers` (default; merged, also "
    "for vLLM), `peft` (the adapter only) or `gguf` (for llama.cpp, whose converter it needs, with an Ollama Modelfile). FOLDER must be "
    "new or empty. An export has no gate, so facts are trained once more into one adapter, together with questions whose replies must "
    "stay; the export is tested before it is kept",
    "push": "OWNER/NAME [--private] [--as KIND] [--max-shard-size SIZE]: the same, on the Hugging Face hub, with a model card",
    "panel": "[chat|finetune|facts|model]: open the panels, which do the same with widgets; without a name, all four",
}
PANELS = ("chat", "finetune", "facts", "model")
_ABOUT_A_FACT = ("probe", "tokens", "forget")

_KINDS = "`transformers` (default), `peft` (the adapter only) or `gguf` (through llama.cpp's own converter, with a Modelfile for Ollama)."


def _export_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Declare the options that ``export`` and ``push`` share."""
    size = argument("--max-shard-size", default="5GB", metavar="SIZE", help="Largest file of weights, such as `500MB`. Default: `5GB`.")
    kind = argument("--as", dest="kind", default="transformers", metavar="KIND", help=_KINDS)
    shared: Callable[..., Any] = kind(size(command))
    return shared


@magics_class
class NbtuneMagics(Magics):
    """The command magic of one session."""

    def __init__(self, shell: Any, session: Nbtune) -> None:
        super().__init__(shell)
        self._session = session
        self._panels: Panels | None = None
        self._scope: ChainMap[str, Any] = ChainMap()  # variables in the scope of the call

    def close(self) -> None:
        """Stop the panels' work and close them; called when the extension is unloaded."""
        if self._panels is not None:
            self._panels.close()

    @no_var_expand
    @needs_local_scope
    @line_magic
    def nbtune(self, line: str, local_ns: dict[str, Any] | None = None) -> None:
        """Run a command; without one, list the commands.

        Commands: status, model, data, evaluate, facts, probe, tokens, adapters, use, forget, rebuild, undo, redo, export, push, panel.

        Examples
        --------
        ::

            %nbtune facts
            %nbtune forget torchkeras
            %nbtune model Qwen/Qwen3-0.6B --dtype bfloat16
        """
        self._scope = ChainMap(local_ns or {}, self.shell.user_ns)
        try:
            with interrupts_in_a_line():
                self._run(line.strip())
        finally:
            self._scope = ChainMap()  # do not keep the user's objects alive

    def _run(self, line: str) -> None:
        command, _, rest = line.partition(" ")
        as_typed = command in COMMANDS
        if not as_typed:
            command, _, rest = self._expanded(line).partition(" ")
        if not command:
            self._list()
            return
        if command not in COMMANDS:
            raise NbtuneError(f"Unknown command {command!r}: choose from {', '.join(COMMANDS)}.{did_you_mean(command, COMMANDS)}")
        run: Callable[[str], None] = getattr(self, f"_{command}")
        if as_typed and command not in _ABOUT_A_FACT:
            rest = self._expanded(rest)
        if command == "panel":  # only shows widgets; a click there claims the model by itself
            run(rest.strip())
        else:
            with self._session.claim.held():
                run(rest.strip())

    def _expanded(self, text: str) -> str:
        """Return text with ``$name`` and ``{name}`` filled in, as IPython does for other magics; unchanged if that fails."""
        try:
            return str(DollarFormatter().vformat(text, [], dict(self._scope)))  # IPython 7 accepts only a dict
        except Exception:  # of any type: the braces may contain any expression
            return text

    def _keyword(self, rest: str) -> str:
        """Return a keyword as typed if there is such a fact, else with variables filled in."""
        from nbtune.folding import keyword_key

        typed = unquoted(rest)
        known = any(keyword_key(fact.keyword) == keyword_key(typed) for fact in self._session.lm.facts)
        return typed if known else unquoted(self._expanded(rest))

    def _list(self) -> None:
        from nbtune.display.shown import show, table

        show(table(("command", "what it does"), COMMANDS.items()))

    def _status(self, rest: str) -> None:
        _no_argument("status", rest)
        from nbtune.display.model import model_rows
        from nbtune.display.shown import show, table

        if not self._session.loaded:
            show(table(("", ""), [("model", f"{self._session.model} (loaded at the first question)"), ("store", self._session.store)]))
            return
        lm = self._session.lm
        rows = [
            *model_rows(lm),
            ("adapter", f"{lm.adapter}, version {lm.version}" if lm.adapter else "none (the base answers)"),
            ("holds", self._holds()),
            ("conversation", counted(len(self._session.history) // 2, "round")),
            ("store", str(lm.store.folder)),
        ]
        show(table(("", ""), rows))

    @magic_arguments()
    @argument("--dtype", metavar="D", help="`float32`, `float16` or `bfloat16`.")
    @argument("--device", metavar="D", help="`cpu`, `cuda`, `cuda:1`, `mps`.")
    @argument("--quantize", metavar="Q", help="`int8` or `nf4` (8 or 4 bits), on a GPU or CPU: needs `pip install bitsandbytes`.")
    @argument("--revision", metavar="R", help="Branch, tag or commit on the hub.")
    def _model(self, rest: str) -> None:
        options, source = parse(NbtuneMagics._model, rest, anywhere=True)
        if not source:
            raise NbtuneError("Which model? `%nbtune model NAME_OR_PATH`, such as tiny, a folder, or Qwen/Qwen3-0.6B.")
        self._session.load(source, **vars(options))
        self._status("")

    @magic_arguments()
    @reading_options
    def _data(self, rest: str) -> None:
        options, source = parse(NbtuneMagics._data, rest, anywhere=True)
        if not source:
            raise NbtuneError("Which data? `%nbtune data SOURCE`, such as a variable of the notebook, a file, or a data set.")
        from nbtune.display.preview import preview_card
        from nbtune.display.shown import show

        show(preview_card(self._session.lm.preview(self._source(source, "data"), **reading_of(options))))

    @magic_arguments()
    @argument("--limit", type=int, metavar="N", help="Only N of the examples, drawn at random. Default: all.")
    @argument("--max-new-tokens", type=int, default=128, metavar="N", help="Maximum length of a reply in tokens. Default: 128.")
    @argument("--save", metavar="FILE", help="Write the predictions to this `.csv` or `.jsonl` file.")
    @asking_options
    def _evaluate(self, rest: str) -> None:
        options, source = parse(NbtuneMagics._evaluate, rest, anywhere=True)
        if not source:
            raise NbtuneError("Evaluate on what? `%nbtune evaluate SOURCE`, such as a variable of the notebook, a file, or a data set.")
        from nbtune.display.evaluation import evaluation_card

        given = self._source(source, "evaluate")
        wishes = {"limit": options.limit, "max_new_tokens": options.max_new_tokens, "save": options.save, **reading_of(options)}
        run_with_progress(self._session, lambda lm, live: lm.evaluate(given, observer=live, **wishes), evaluation_card)

    def _source(self, source: str, command: str) -> Any:
        return source_of(source, self._scope, f"%nbtune {command}")

    @magic_arguments()
    @argument("--save", metavar="FILE", help="Write the facts to this `.yaml` file instead.")
    def _facts(self, rest: str) -> None:
        options, text = parse(NbtuneMagics._facts, rest, anywhere=True)
        _no_argument("facts", text)
        from nbtune.display.facts import facts_table
        from nbtune.display.shown import show

        lm = self._session.lm
        if options.save is not None:
            say(f"{counted(len(lm.facts), 'fact')} written to {lm.save_facts(options.save)}.")
            return
        if lm.facts:
            show(facts_table(lm.facts, lm.adapter or ""))
        elif lm.adapter is not None:
            say(f"The adapter {lm.adapter} has no facts.")
        elif names := lm.store.names():
            say(f"No adapter is in use. Choose one with `%nbtune use NAME`: {', '.join(names)}.")
        else:
            say("Nothing was taught yet.")

    def _probe(self, rest: str) -> None:
        from nbtune.display.report_card import report_card

        keyword = (self._keyword(rest) or None) if rest else None
        run_with_progress(self._session, lambda lm, live: lm.probe(keyword, observer=live), report_card)

    def _tokens(self, rest: str) -> None:
        if not rest:
            raise NbtuneError("The tokens of what? `%nbtune tokens KEYWORD`.")
        from nbtune.display.shown import show
        from nbtune.display.tokens import token_view

        show(token_view(self._session.lm.tokens(self._keyword(rest))))

    def _rebuild(self, rest: str) -> None:
        from nbtune.display.report_card import report_card

        if rest.startswith("--"):
            raise NbtuneError(f"`%nbtune rebuild` takes a file or nothing: leave out {rest!r}.")
        source = unquoted(rest) or None
        run_with_progress(self._session, lambda lm, live: lm.rebuild(source, observer=live), report_card)

    def _adapters(self, rest: str) -> None:
        _no_argument("adapters", rest)
        from nbtune.display.shown import show, table

        lm = self._session.lm
        names = lm.store.names()
        if not names:
            say(f"There is no adapter in {lm.store.folder} yet.")
            return
        rows = [(name, _version(lm.store, name), "in use" if name == lm.adapter else "") for name in names]
        show(table(("adapter", "version", ""), rows))

    def _use(self, rest: str) -> None:
        if not rest:
            raise NbtuneError("Which adapter? `%nbtune use NAME`, or `%nbtune use none` for the base.")
        name = unquoted(rest)
        self._session.lm.use(None if name == "none" else name)
        say(f"In use: {name} ({self._holds()})." if name != "none" else "The base answers.")

    def _forget(self, rest: str) -> None:
        if not rest:
            raise NbtuneError("Forget what? `%nbtune forget KEYWORD`.")
        from nbtune.display.live import LiveProgress

        keyword, live = self._keyword(rest), LiveProgress(growing=self._session.live)
        try:
            version = self._session.lm.forget(keyword, observer=live)
        finally:
            live.clear()
        say(f"Forgotten: {inert(keyword)}. {counted(len(self._session.lm.facts), 'fact')} left (version {version}).")

    def _undo(self, rest: str) -> None:
        number = self._session.lm.undo(unquoted(rest) or None)
        state = f"version {number}" if number else "the base"
        say(f"Back at {state}: {self._holds()}.")

    def _redo(self, rest: str) -> None:
        number = self._session.lm.redo(unquoted(rest) or None)
        say(f"Restored version {number}: {self._holds()}.")

    def _holds(self) -> str:
        """Return the number of facts or examples of the adapter in use, as text."""
        lm = self._session.lm
        return counted(lm.examples, "example") if lm.examples else counted(len(lm.facts), "fact")

    @magic_arguments()
    @_export_options
    def _export(self, rest: str) -> None:
        options, folder = parse(NbtuneMagics._export, rest, anywhere=True)
        if not folder:
            raise NbtuneError("Where to? `%nbtune export FOLDER`.")
        from nbtune.display.serving import how_to_serve

        def draw(written: Path) -> Shown:
            return how_to_serve(written, options.kind, untaught=self._session.lm.adapter is None)

        run_with_progress(
            self._session,
            lambda lm, live: lm.export(folder, kind=options.kind, max_shard_size=options.max_shard_size, observer=live),
            draw,
        )

    @magic_arguments()
    @argument("--private", action="store_true", help="Make a new repository private.")
    @_export_options
    def _push(self, rest: str) -> None:
        options, repository = parse(NbtuneMagics._push, rest, anywhere=True)
        if not repository:
            raise NbtuneError("Where to? `%nbtune push OWNER/NAME`.")
        from nbtune.display.serving import BASE_ALONE
        from nbtune.display.shown import Shown, text_block

        def draw(address: str) -> Shown:
            text = "\n".join([f"On the hub: {address}", *([BASE_ALONE] if self._session.lm.adapter is None else [])])
            return Shown(text, text_block(text))

        run_with_progress(self._session, lambda lm, live: lm.push(repository, **vars(options), observer=live), draw)

    def _panel(self, rest: str) -> None:
        if rest and rest not in PANELS:
            raise NbtuneError(f"There is no panel {rest!r}: choose from {', '.join(PANELS)}.{did_you_mean(rest, PANELS)}")
        from nbtune.display.shown import in_notebook

        if not in_notebook():
            raise NbtuneError("Panels need a notebook: here %chat, %finetune, `%nbtune facts` and `%nbtune model` do the same.")
        if find_spec("ipywidgets") is None:
            raise NbtuneError("Panels need ipywidgets: `%pip install ipywidgets`, then reload the page.")
        from nbtune.panels import Panels

        if self._panels is None:
            self._panels = Panels(self.shell, self._session)
        self._panels.show(rest)


def _no_argument(command: str, rest: str) -> None:
    if rest:
        raise NbtuneError(f"`%nbtune {command}` takes no argument: leave out {rest!r}.")


def _version(store: Store, name: str) -> str:
    """Return the number of the current version, or the reason why it can't be read."""
    try:
        return str(store.current(name))
    except NbtuneError as error:
        return str(error)
