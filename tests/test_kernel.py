"""The magics in a real kernel: errors, interrupts, and HTML that stays harmless."""

import nbformat
import pytest
from jupyter_client.manager import start_new_kernel
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError


@pytest.fixture
def kernel(tmp_path):
    manager, client = start_new_kernel(startup_timeout=300, cwd=str(tmp_path))
    yield manager, client
    client.stop_channels()
    manager.shutdown_kernel(now=True)


def execute(client, code, on_message=None, timeout=600):
    """Run a cell and return its outputs and the status of its reply.

    Cells are sent one by one, as by hand: a kernel may drop a cell that arrives right after a failed one.
    """
    messages = []

    def keep(message):
        messages.append(message)
        if on_message:
            on_message(message)

    reply = client.execute_interactive(code, output_hook=keep, timeout=timeout, stop_on_error=False)
    return messages, reply["content"]["status"]


def text_of(messages):
    return "".join(str(m["content"].get("text", "")) + str(m["content"].get("data", "")) for m in messages)


def traceback_of(messages):
    (error,) = [message["content"]["traceback"] for message in messages if message["msg_type"] == "error"]
    return error


def test_a_table_is_one_output(kernel):
    messages, _ = execute(kernel[1], "%load_ext nbtune\n%nbtune status")
    (shown,) = [message["content"]["data"] for message in messages if message["msg_type"] == "display_data"]
    assert shown["text/html"].count("<table") == 1


def test_a_first_question_that_fails_leaves_no_word_of_loading(kernel):
    execute(kernel[1], "%load_ext nbtune")
    messages, status = execute(kernel[1], "%chat --temperature -1 hi")
    assert status == "error"
    last = [message for message in messages if message["msg_type"] == "update_display_data"][-1]
    assert "loading" not in str(last["content"]["data"])


def test_a_finetune_that_fails_leaves_no_bar(kernel):
    execute(kernel[1], "%load_ext nbtune")
    messages, status = execute(kernel[1], "%%finetune --epochs 0 x\ny")
    assert status == "error"
    last = [message for message in messages if message["msg_type"] == "update_display_data"][-1]
    assert "progress" not in str(last["content"]["data"])


def test_an_error_is_one_line_and_stops_run_all(tmp_path):
    cells = ["%load_ext nbtune", "%%chat --tempratur 1\nhi", "print('went on')"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    with pytest.raises(CellExecutionError):
        NotebookClient(notebook, timeout=600, iopub_timeout=60, resources={"metadata": {"path": str(tmp_path)}}).execute()
    (error,) = notebook.cells[1].outputs
    assert error.output_type == "error"
    assert len(error.traceback) == 1
    assert "Did you mean --temperature?" in error.traceback[0]
    assert notebook.cells[2].outputs == []


def test_a_reply_is_one_display_that_is_updated(kernel):
    _, client = kernel
    execute(client, "%load_ext nbtune")
    messages, status = execute(client, "%chat --max-new-tokens 60 What is a whale?")
    kinds = [m["msg_type"] for m in messages]
    assert status == "ok"
    assert kinds.count("display_data") == 1
    first = [m for m in messages if m["msg_type"] == "display_data"]
    assert "loading tiny" in text_of(first), "the first question waits, and says for what"
    drawn = [m for m in messages if m["msg_type"] == "update_display_data"]
    assert "whale" in text_of(drawn[-1:])
    assert "loading" not in text_of(drawn)
    messages, _ = execute(client, "%chat What is a whale?")
    assert "loading" not in text_of(messages)


def test_html_in_a_reply_is_shown_as_text(kernel):
    _, client = kernel
    hostile = "<img src=http://x.invalid/a onerror=alert(1)><script>alert(2)</script>"
    code = f"from nbtune.display.live import LiveReply\nlive = LiveReply()\nfor c in {hostile!r}:\n    live.add(c)\nlive.close()"
    messages, _ = execute(client, code)
    html = [m["content"]["data"]["text/html"] for m in messages if "text/html" in m["content"].get("data", {})]
    assert html
    assert not any("<script" in h or "<img" in h for h in html)
    assert "&lt;script&gt;" in html[-1]


def test_ctrl_c_in_a_chat_keeps_the_text_and_a_sane_history(kernel):
    manager, client = kernel
    execute(client, "%load_ext nbtune\nimport nbtune\nfrom IPython import get_ipython")
    session = "session = next(c for c in get_ipython().configurables if type(c).__name__ == 'Nbtune')"
    execute(client, f"{session}\nsession.lm.chat('hi')")
    # The model never ends its turn or reaches the end of its context, so the reply goes on until interrupted.
    execute(client, "session.lm.model.generation_config.eos_token_id, session.lm.model.config.max_position_embeddings = None, 8192")

    seen = []

    def interrupt(message):
        if not seen and message["msg_type"] == "display_data":  # once: a second interrupt would hit the next cell
            seen.append(message)
            manager.interrupt_kernel()

    messages, status = execute(client, "%chat --max-new-tokens 4000 What is a whale?", interrupt)
    assert status == "error"
    assert "[interrupted]" in text_of(messages)
    assert traceback_of(messages) == ["KeyboardInterrupt: stopped; the reply so far is kept."]
    messages, status = execute(client, "print([m['role'] for m in session.history], len(session.history[-1]['content']) > 0)")
    assert "['user', 'assistant'] True" in text_of(messages)
    execute(client, "session.lm.model.generation_config.eos_token_id = session.lm.tokenizer.eos_token_id")
    assert execute(client, "%chat --rounds 0 hello")[1] == "ok"


def test_ctrl_c_in_a_fit_leaves_the_model_as_it_was(kernel):
    manager, client = kernel
    execute(client, "%load_ext nbtune")
    execute(client, "%chat -o before --rounds 0 What is grovix?")
    seen = []

    def interrupt(message):
        if not seen and "learning" in str(message["content"].get("data", "")):
            seen.append(message)
            manager.interrupt_kernel()

    messages, status = execute(client, "%%finetune grovix\ngrovix is a small robot that waters plants in the night.", interrupt)
    assert seen
    assert status == "error"
    assert traceback_of(messages) == ["KeyboardInterrupt: stopped; what was there before is unchanged."]
    assert execute(client, "%chat -o after --rounds 0 What is grovix?")[1] == "ok"
    messages, _ = execute(client, "print(before == after)")
    assert "True" in text_of(messages)
    messages, _ = execute(client, "%nbtune status")
    assert "none (the base answers)" in text_of(messages)
