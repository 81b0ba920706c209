"""A real JupyterLab in a folder of its own, and Debian's Chromium driven by Playwright."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).parent.parent.parent
CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},  # all cells are in the page
}
_READY = """() => {
    const session = window.jupyterapp?.shell.currentWidget?.sessionContext;
    return session?.isReady && session.session?.kernel?.status === 'idle';
}"""
SLOW = 180_000  # for machines that do more than one thing
expect.set_options(timeout=SLOW)
LIGHT, DARK = "JupyterLab Light", "JupyterLab Dark"


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    """A folder with the notebooks."""
    folder = tmp_path_factory.mktemp("lab")
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(path, folder)
    return folder


def serve(program, folder, home):
    """Start a Jupyter server on a free port; return it and its address."""
    for name, values in SETTINGS.items():
        file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(values))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    places = {f"JUPYTER_{name}_DIR": str(home / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    places |= {"JUPYTERLAB_SETTINGS_DIR": str(home / "settings"), "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces")}
    options = ["--no-browser", "--allow-root", f"--port={port}", "--ServerApp.port_retries=0"]
    options += ["--IdentityProvider.token=", "--expose-app-in-browser"]
    log = (home / f"{program}.log").open("w")
    command = [sys.executable, "-m", "jupyter", program, *options, f"--ServerApp.root_dir={folder}"]
    server = subprocess.Popen(command, env={**os.environ, **places, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    end = time.monotonic() + 300
    while server.poll() is None and time.monotonic() < end:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}/api", timeout=10):  # noqa: S310 - our own server
            return server, address
        time.sleep(0.2)
    server.kill()
    raise RuntimeError((home / f"{program}.log").read_text())


@contextlib.contextmanager
def served(program, folder, home):
    """Have a Jupyter server inside the block."""
    server, address = serve(program, folder, home)
    try:
        yield address
    finally:
        server.terminate()
        server.wait(300)


@pytest.fixture(scope="session")
def lab(folder, tmp_path_factory):
    """Address of a JupyterLab."""
    with served("lab", folder, tmp_path_factory.mktemp("home")) as address:
        yield address


@pytest.fixture(scope="session")
def notebook_7(folder, tmp_path_factory):
    """Address of a Notebook 7."""
    with served("notebook", folder, tmp_path_factory.mktemp("home")) as address:
        yield address


@pytest.fixture(scope="session")
def browser():
    """Chromium, one for all tests."""
    if not Path(CHROMIUM).exists():
        pytest.exit(f"There is no Chromium at {CHROMIUM}: apt install chromium, or name another with CHROMIUM=/path/to/it.", 2)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


class Notebook:
    """One notebook in one page."""

    def __init__(self, page, address):
        self.page, self._address = page, address
        self.alerts = []
        page.set_default_timeout(SLOW)
        page.on("dialog", self._answer)

    def _answer(self, dialog):
        if dialog.type == "beforeunload":  # the page may be left unsaved
            dialog.accept()
        else:
            self.alerts.append(dialog.message)
            dialog.dismiss()

    def open(self):
        self.page.goto(self._address)
        self.page.wait_for_selector(".jp-Notebook .jp-Cell")
        self.page.wait_for_function(_READY)
        return self

    def command(self, name, **arguments):
        """Begin a command of JupyterLab's; what it does is waited for by what is seen."""
        self.page.evaluate("([name, args]) => { window.jupyterapp.commands.execute(name, args); }", [name, arguments])

    def run_all(self, seconds=300):
        """Run all cells and wait until none runs or waits any more."""
        self.command("notebook:run-all-cells")
        self.settle(seconds)

    def settle(self, seconds=300):
        self.page.wait_for_function(
            "() => ![...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].some(p => p.textContent.includes('*'))",
            timeout=seconds * 1000,
        )

    def run_last(self, code, seconds=300):
        """Put code into a new cell at the end, run it, and return where it puts out what it does."""
        self.command("notebook:move-cursor-down")
        self.page.evaluate(
            """code => {
                const panel = window.jupyterapp.shell.currentWidget, model = panel.content.model;
                model.sharedModel.addCell({cell_type: 'code', source: code});
                panel.content.activeCellIndex = model.cells.length - 1;
            }""",
            code,
        )
        self.command("notebook:run-cell")
        self.settle(seconds)
        return self.page.locator(".jp-CodeCell").last.locator(".jp-OutputArea").first

    def button(self, name):
        """Return the last button of that name that is seen."""
        found = self.page.locator("button.jupyter-button", has_text=re.compile(rf"^\s*{name}\s*$"))
        return found.locator("visible=true").last

    def theme(self, name):
        self.command("apputils:change-theme", theme=name)
        self.page.wait_for_function("name => document.body.dataset.jpThemeName === name", arg=name)
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")


@pytest.fixture
def notebook(lab, browser, folder, request):
    """Make a notebook of cells, and open it."""
    opened = []

    def make(*cells, name=None, width=1200, height=1000, pages=f"{lab}/doc/tree"):
        name = name or f"{request.node.name.replace('[', '-').rstrip(']')}.ipynb"
        if cells:
            written = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
            written.metadata.kernelspec = {"name": "python3", "display_name": "Python 3", "language": "python"}
            nbformat.write(written, folder / name)
        context = browser.new_context(viewport={"width": width, "height": height})
        found = Notebook(context.new_page(), f"{pages}/{name}")
        opened.append((context, found))
        return found.open()

    yield make
    for context, found in opened:
        with contextlib.suppress(Exception):
            found.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()")
        context.close()
