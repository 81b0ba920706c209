"""``%chat`` and ``%%chat``: ask the model a question, stream the reply, and keep the conversation."""

from __future__ import annotations

from argparse import Namespace
from collections import ChainMap
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from keyword import iskeyword
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, magics_class, needs_local_scope, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from nbtune.errors import Interrupted, NbtuneError, interrupts_in_a_line
from nbtune.magics.options import fill_variables, parse
from nbtune.magics.watching import run_with_progress
from nbtune.session import Nbtune
from nbtune.variables import variable

if TYPE_CHECKING:
    from nbtune.language_model import LanguageModel

__all__ = ["ChatMagics"]

_INTERRUPTED = "[interrupted]"
_LEFT_OUT = "[the oldest {} {} left out, to fit into the context]"
_NOTES = {
    "limit": "[cut at the maximum length; raise it with --max-new-tokens]",
    "context": "[cut: the context is full; --new starts a new conversation]",
}


@magics_class
class ChatMagics(Magics):
    """The chat magic of one session."""

    def __init__(self, shell: Any, session: Nbtune) -> None:
        super().__init__(shell)
        self._session = session

    @no_var_expand
    @needs_local_scope
    @magic_arguments()
    @argument("-o", "--output", metavar="NAME", help="Put the reply into this variable.")
    @argument("--new", action="store_true", help="Start a new conversation first; without a question, do only that.")
    @argument(
        "--rounds",
        type=int,
        metavar="N",
        help="Send only the last N rounds of the conversation along (default: all that fit); 0 sends none.",
    )
    @argument("--system", metavar="TEXT", help="A system prompt for this question.")
    @argument("--max-new-tokens", type=int, metavar="N", help="Maximum length of the reply in tokens (default 512).")
    @argument(
        "--temperature",
        type=float,
        metavar="T",
        help="`0`, the default, is greedy: one answer, always the same. With `--n` the default is 1.",
    )
    @argument(
        "--top-p",
        type=float,
        default=1.0,
        metavar="P",
        help="When sampling, keep only the likeliest tokens, up to this total probability.",
    )
    @argument("--repetition-penalty", type=float, default=1.0, metavar="R", help="Values above 1 discourage repetition.")
    @argument("--seed", type=int, metavar="N", help="When sampling: the same seed gives the same reply.")
    @argument("--compare", action="store_true", help="Ask the base and the tuned model, side by side; not kept in the conversation.")
    @argument("--stats", action="store_true", help="Show how fast the reply came, and how many prompt tokens were read for it.")
    @argument("--adapter", metavar="NAME", help="Answer with this adapter, or `none` for the base, this once.")
    @argument("--stop", action="append", metavar="TEXT", help="End the reply before this text; may be given more than once.")
    @argument("--n", type=int, metavar="N", help="N replies to one question, sampled; not kept in the conversation.")
    @argument("--batch", metavar="VAR", help="Answer each question of a list on its own; `-o NAME` gets a DataFrame.")
    @argument("--image", metavar="FILE", help="Fails with a message: nbtune handles text only.")
    @argument("--vars", action="store_true", help="Fill `{name}` from the notebook's variables.")
    @line_cell_magic
    def chat(self, line: str, cell: str | None = None, local_ns: dict[str, Any] | None = None) -> None:
        """Ask the model.

        The text goes to the model as typed, braces and quotes included. The conversation is kept: the
        next question may refer to this one. Ctrl-C stops the reply and keeps what was said so far.

        Examples
        --------
        ::

            %%chat
            What is the capital of France?

            %chat -o answer --rounds 0 Do you know torchkeras?
        """
        options, text = parse(ChatMagics.chat, line)
        prompt = "\n".join(part for part in (text, (cell or "").strip("\r\n").rstrip()) if part.strip())
        names = ChainMap(local_ns or {}, self.shell.user_ns)
        if options.vars:
            prompt = fill_variables(prompt, names)
        _check(options, prompt)
        with self._session.claim.held(), interrupts_in_a_line():
            if options.batch is None and not prompt.strip():
                self._reset_if_new(options)
                print("New conversation started.")
            elif options.compare:
                self._store_output(options, self._compare(options, prompt))
            elif options.n is None and options.batch is None:
                self._ask(options, prompt)
            else:
                self._store_output(options, self._many(options, [prompt] * (options.n or 0) or _questions(options.batch, names)))

    def _store_output(self, options: Namespace, reply: Any) -> None:
        """Put the outcome into the variable that ``--output`` names, if any."""
        if options.output is not None:
            self.shell.user_ns[options.output] = reply

    def _reply_options(self, options: Namespace, prompt: str) -> dict[str, Any]:
        """Return the arguments for asking the model; with an empty prompt, as in a batch, they hold no conversation."""
        limit = self._session.max_new_tokens if options.max_new_tokens is None else options.max_new_tokens
        alone = options.new or not prompt
        return {
            "history": [] if alone else self._session.rounds_to_send(options.rounds, prompt, options.system, limit),
            "system": options.system,
            "max_new_tokens": limit,
            "temperature": options.temperature if options.temperature is not None else float(options.n is not None),
            "top_p": options.top_p,
            "repetition_penalty": options.repetition_penalty,
            "seed": options.seed,
            "stop": tuple(options.stop or ()),
        }

    def _answering(self, lm: LanguageModel, options: Namespace) -> AbstractContextManager[None]:
        """Answer inside the block with the adapter that ``--adapter`` names, or else with the one in use."""
        return nullcontext() if options.adapter is None else lm.using(None if options.adapter == "none" else options.adapter)

    def _reset_if_new(self, options: Namespace) -> None:
        """Start a new conversation if ``--new`` was given; called after the reply, so that a question that fails changes nothing."""
        if options.new:
            self._session.history = []

    def _ask(self, options: Namespace, prompt: str) -> None:
        from nbtune.display.live import LiveReply
        from nbtune.display.shown import muted, show

        live = LiveReply(growing=self._session.live)
        try:
            if not self._session.loaded:
                live.wait(f"loading {self._session.model} …")
            lm = self._session.lm
            asked = self._reply_options(options, prompt)
            with self._answering(lm, options):
                reply = lm.reply(prompt, on_text=live.add, **asked)
        except BaseException:
            live.close()
            raise
        left_out = 0 if options.new else (len(self._session.last_rounds(options.rounds)) - len(asked["history"])) // 2
        notes = [_LEFT_OUT.format(left_out, "round was" if left_out == 1 else "rounds were")] if left_out else []
        notes += [_INTERRUPTED] if not reply.finished else [_NOTES[reply.cut]] if reply.cut else []
        live.close("\n".join(notes))
        if options.stats:
            show(muted(reply.stats()))
        self._reset_if_new(options)
        if reply.text:
            self._session.remember(prompt, reply.text)
        if reply.text or reply.finished:
            self._store_output(options, reply.text)  # also a partial reply, after Ctrl-C
        if not reply.finished:
            raise Interrupted("stopped; the reply so far is kept." if reply.text else "stopped.")

    def _many(self, options: Namespace, prompts: list[str]) -> Any:
        """Ask a list of questions, or one question several times; return a DataFrame or a list of replies."""
        from nbtune.display.shown import Shown, table

        batch = options.batch is not None

        def work(lm: LanguageModel, live: Any) -> list[str]:
            asked = self._reply_options(options, "" if batch else prompts[0])
            with self._answering(lm, options):
                return lm.chat_batch(prompts, observer=live, **asked)

        def draw(replies: list[str]) -> Shown:
            rows = list(zip(prompts if batch else map(str, range(1, len(prompts) + 1)), replies, strict=True))
            return table(("prompt" if batch else "", "reply"), rows)

        replies = run_with_progress(self._session, work, draw)
        self._reset_if_new(options)
        if not batch:
            return replies
        import pandas as pd

        return pd.DataFrame({"prompt": prompts, "reply": replies})

    def _compare(self, options: Namespace, prompt: str) -> str:
        from nbtune.display.comparison import comparison
        from nbtune.display.shown import show

        lm = self._session.lm
        if not lm.facts and not lm.examples and options.adapter is None:
            raise NbtuneError("--compare needs an adapter in use: teach something with %%finetune, or choose one with `%nbtune use NAME`.")
        asked = self._reply_options(options, prompt)
        with lm.using(options.adapter or lm.adapter):
            replies = [lm.reply(prompt, **asked)]
            if replies[0].finished:
                with lm.base():
                    replies.append(lm.reply(prompt, **asked))
        if not all(reply.finished for reply in replies):
            raise Interrupted("stopped; the comparison was not kept.")
        self._reset_if_new(options)
        after, before = (reply.text for reply in replies)
        show(comparison(before, after))
        return after


def _questions(name: str, variables: Mapping[str, Any]) -> list[str]:
    """Return the questions in a variable, which holds a list or a column of a table."""
    given = variable(name, variables, "--batch")
    if hasattr(given, "columns"):
        raise NbtuneError(f"--batch {name} is a table: put one of its columns into a variable, such as questions = {name}[...].")
    single = isinstance(given, (str, Mapping)) or not isinstance(given, Iterable)
    questions = [] if single else list(given)
    if not questions or not all(isinstance(one, str) for one in questions):
        raise NbtuneError(f"--batch {name} is not a list of questions.")
    empty = next((number for number, one in enumerate(questions, start=1) if not one.strip()), None)
    if empty is not None:
        raise NbtuneError(f"--batch {name}: question {empty} is empty.")
    return questions


def _check(options: Namespace, prompt: str) -> None:
    """Refuse invalid options, and options that do not go with each other or with the prompt.

    Raises
    ------
    NbtuneError
        Names the option, and what to do.
    """
    if options.image is not None:
        raise NbtuneError("--image is not supported: nbtune handles text only.")
    if options.output is not None and (not options.output.isidentifier() or iskeyword(options.output)):
        raise NbtuneError(f"-o {options.output}: that is not a variable name.")
    if options.rounds is not None and options.rounds < 0:
        raise NbtuneError(f"--rounds {options.rounds}: expected 0 or more.")
    chosen = [name for name, value in vars(options).items() if name != "new" and value != ChatMagics.chat.parser.get_default(name)]
    if not prompt.strip() and options.batch is None and (not options.new or chosen):  # --new needs no prompt, if it is the only option
        raise NbtuneError("The prompt is empty: write the question below %%chat, or after %chat.")
    kinds = [options.compare, options.n is not None, options.batch is not None]
    if sum(kinds) > 1 or (options.batch is not None and prompt):
        raise NbtuneError("Use one of --n with a question, --batch VAR without one, or --compare.")
    if options.compare and options.adapter == "none":
        raise NbtuneError("--compare compares an adapter with the base: name the adapter, or leave out --adapter.")
    if options.stats and any(kinds):
        raise NbtuneError("--stats describes one reply: leave out --n, --batch and --compare.")
    if options.batch is not None and options.rounds is not None:
        raise NbtuneError("--batch answers each question on its own: leave out --rounds.")
    if options.n is not None and (options.n < 1 or options.temperature == 0):
        raise NbtuneError("--n needs 1 or more, and --temperature above 0: greedy replies are all alike.")
