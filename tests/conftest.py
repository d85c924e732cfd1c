"""What several tests need: a slice of the real MNIST, a store of their own, commands as a user types them."""

from __future__ import annotations

import http.client
import http.server
import itertools
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest

from pipeline import task
from pipeline.train import dataset
from tests.toy import Toy

ROOT = Path(__file__).parents[1]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
HANGS = 600  # seconds after which something is taken for hanging: far more than it needs on a busy machine
CHOICES_OF_A_LAUNCHER = ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "MLFLOW_EXPERIMENT_NAME")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow tests come first: what is left for the end is small enough to be shared out among the workers."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    """The task that every study runs here."""
    found = Toy()
    monkeypatch.setattr(task, "load", lambda: found)
    return found


@pytest.fixture(scope="session")
def mnist() -> dataset.Images:
    """The whole shipped data set."""
    return dataset.load("mnist")


@pytest.fixture(scope="session")
def small(mnist: dataset.Images) -> dataset.Images:
    """600 training and 200 test images of the real MNIST."""
    return dataset.Images("small", "file:///small", "0" * 64, mnist.train[:600], mnist.test[:200])


@pytest.fixture(scope="session")
def small_npz(small: dataset.Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a file."""
    path = tmp_path_factory.mktemp("data") / "small.npz"
    arrays = {f"x_{part}": np.round(getattr(small, part) * 255).astype(np.uint8) for part in ("train", "test")}
    np.savez_compressed(path, **{name: array[..., 0] for name, array in arrays.items()})
    return path


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite store without runs: to make one takes more than a second, to copy it none."""
    import mlflow

    path = tmp_path_factory.mktemp("empty") / "store.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A tracking store of the test's own, for this process and for those it starts; nobody has made it yet."""
    import mlflow

    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    for name in CHOICES_OF_A_LAUNCHER:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)  # where MLflow puts the artifacts
    yield os.environ["MLFLOW_TRACKING_URI"]
    while mlflow.active_run():
        mlflow.end_run("FAILED")


def copy_store(made: Path, folder: Path) -> str:
    """Put a store without artifacts, which are to lie beside it, where `environment(folder)` is; returns its URI."""
    shutil.copy(made, folder / "store.db")
    with closing(sqlite3.connect(folder / "store.db")) as connection, connection:
        connection.execute("UPDATE experiments SET artifact_location = ? || experiment_id", (f"{folder}/mlruns/",))
    return f"sqlite:///{folder}/store.db"


@pytest.fixture
def db(store: str, empty_store: Path, tmp_path: Path) -> str:
    """The same, there already."""
    return copy_store(empty_store, tmp_path)


class Server:
    """A real MLflow server on loopback, which can be killed and started again on the same port and store."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.folder.mkdir(exist_ok=True)
        words = ("mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port), "--workers", "1")
        store, artifacts = f"sqlite:///{self.folder}/store.db", str(self.folder / "artifacts")
        places = ("--backend-store-uri", store, "--artifacts-destination", artifacts)
        # Its job runner is of no use here, and its eight processes take three times what the server takes to start.
        self._process = start(*words, *places, folder=self.folder, MLFLOW_SERVER_ENABLE_JOB_EXECUTION="false")
        wait_for(lambda: answers(f"{self.uri}/health"), self._process)

    def kill(self) -> None:
        """Kill it with all its workers, whatever it is doing."""
        if self._process:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """A server of the test's own."""
    own = Server(tmp_path / "server")
    try:
        own.start()
        yield own
    finally:
        own.kill()


@pytest.fixture(scope="session")
def lasting_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One that many tests share, each with an experiment of its own; none of them may kill it."""
    shared = Server(tmp_path_factory.mktemp("server"))
    try:
        shared.start()
        yield shared
    finally:
        shared.kill()


@dataclass(frozen=True)
class Request:
    """What a client asks of a server."""

    method: str
    path: str
    body: bytes

    @property
    def what(self) -> str:
        """Method and path without its parameters."""
        return f"{self.method} {self.path.split('?')[0]}"


class Proxy:
    """Stands before a server and cuts connections, as `treat` says about each request.

    PASS; BEFORE = cut, and the server hears nothing of it; AFTER = cut, when the server has answered; BUSY = 503;
    BROKEN = 500.
    """

    PASS, BEFORE, AFTER, BUSY, BROKEN = "pass", "before", "after", "busy", "broken"

    def __init__(self, target: str) -> None:
        self.requests: list[Request] = []
        self.treat: Callable[[Request], str] = lambda request: self.PASS
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._target = urlsplit(target)
        self._server: http.server.ThreadingHTTPServer | None = None

    def open(self) -> None:
        """Begin to listen."""
        handler = type("Handler", (_ProxyHandler,), {"proxy": self})
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self.port), handler)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        """Be away: refuse connections, and cut those that are open."""
        if self._server:
            server, self._server = self._server, None
            server.shutdown()
            server.server_close()

    @property
    def is_open(self) -> bool:
        """Whether it listens, and serves the connections that it has."""
        return self._server is not None

    def forward(self, request: Request, headers: Mapping[str, str]) -> tuple[int, list[tuple[str, str]], bytes]:
        """The target's answer."""
        target = http.client.HTTPConnection(str(self._target.hostname), self._target.port or 80, timeout=60)
        with closing(target):
            kept = {k: v for k, v in headers.items() if k.lower() not in ("host", "transfer-encoding", "connection")}
            target.request(request.method, request.path, request.body, {**kept, "Connection": "close"})
            answer = target.getresponse()
            return answer.status, answer.getheaders(), answer.read()


class _ProxyHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def _handle(self) -> None:
        request = Request(self.command, self.path, self._body())
        self.proxy.requests.append(request)
        treatment = self.proxy.treat(request) if self.proxy.is_open else Proxy.BEFORE
        try:
            if treatment in (Proxy.BUSY, Proxy.BROKEN):
                self._answer(503 if treatment == Proxy.BUSY else 500, [], treatment.encode())
                return
            answer = self.proxy.forward(request, dict(self.headers)) if treatment != Proxy.BEFORE else None
        except (OSError, http.client.HTTPException):  # the server is gone
            answer = None
        if answer and treatment == Proxy.PASS:
            self._answer(*answer)
        else:
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response(status)
        for name, value in headers:
            if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """It is quiet."""


@pytest.fixture
def proxy(lasting_server: Server) -> Iterator[Proxy]:
    """A way to a server that lasts, which the test can cut."""
    own = Proxy(lasting_server.uri)
    own.open()
    yield own
    own.close()


@contextmanager
def served_by_git(repository: Path, folder: Path) -> Iterator[str]:
    """The URL at which git serves a clone of a repository on loopback."""
    port = free_port()
    subprocess.run(["git", "clone", "--quiet", "--bare", str(repository), str(folder / "clone.git")], check=True)
    place = ("--listen=127.0.0.1", f"--port={port}", f"--base-path={folder}", "--export-all")
    daemon = start("git", "daemon", "--reuseaddr", *place, folder=folder)
    uri = f"git://127.0.0.1:{port}/clone.git"
    try:
        wait_for(lambda: subprocess.run(["git", "ls-remote", uri], capture_output=True).returncode == 0, daemon)
        yield uri
    finally:
        end_group(daemon)


def answers(url: str) -> bool:
    """Whether a server says 200."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def end_group(process: subprocess.Popen[str]) -> None:
    """End a process of `start` and its children."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def environment(folder: Path) -> dict[str, str]:
    """This process's, with its own Python and MLflow first, and a store and journals in `folder`."""
    mine = {name: value for name, value in os.environ.items() if name not in CHOICES_OF_A_LAUNCHER}
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    places = {"MLFLOW_TRACKING_URI": f"sqlite:///{folder}/store.db", "VARIATIONS_STATE": f"{folder}/state"}
    return {**mine, "PATH": path, **places}


def run(*words: str, folder: Path, cwd: Path = ROOT, timeout: float = HANGS) -> subprocess.CompletedProcess[str]:
    """A command as a user types it in the project's folder, with a store in `folder`."""
    env = environment(folder)
    return subprocess.run(words, cwd=cwd, env=env, timeout=timeout, capture_output=True, text=True)


_PRINTS_TO: dict[int, Path] = {}  # what the processes of `start` print


def start(*words: str, folder: Path, **changes: str) -> subprocess.Popen[str]:
    """The same, not waited for, in a process group of its own; what it prints goes to `folder/output`."""
    env = {**environment(folder), **changes}
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # Ctrl-C is ignored by whatever a shell has started in the background, a closed terminal under nohup.
            preexec_fn=lambda: [signal.signal(each, signal.SIG_DFL) for each in (signal.SIGINT, signal.SIGHUP)],
        )
    _PRINTS_TO[process.pid] = folder / "output"
    return process


def wait_for(happened: Callable[[], object], process: subprocess.Popen[str], seconds: float = HANGS) -> None:
    """Until something has happened; fails when the process ends before or the time is up."""
    end = time.monotonic() + seconds
    while not happened():
        printed = _PRINTS_TO.get(process.pid, Path(os.devnull))
        assert process.poll() is None, f"it ended with {process.returncode} before: {printed.read_text()[-2000:]}"
        assert time.monotonic() < end, f"nothing in {seconds} s"
        time.sleep(0.2)


@contextmanager
def no_hang(seconds: int = HANGS) -> Iterator[None]:
    """Fail where it hangs."""

    def fail(*_: object) -> None:
        pytest.fail(f"it hangs: nothing in {seconds} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


# A hundred for each process, below those that the system gives to clients: tests run beside one another.
_PORTS = itertools.count(20_000 + os.getpid() % 120 * 100)


def free_port() -> int:
    """A port on loopback that nobody listens on, and that no other test gets."""
    while True:
        port = next(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
