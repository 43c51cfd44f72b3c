"""Processes that have loaded everything already: no seconds of imports for each of them.

They are forks of a server that has imported all of this and computed nothing: a fork of the tests
themselves would take over the state of torch's threads, but not the threads. What they are asked to
do goes to them pickled. They are processes of their own, with their own signals, output, exit code
and death. What only a new interpreter shows (what it imports, the way in by ``python -m``) needs a
new interpreter.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from multiprocessing import forkserver, reduction
from pathlib import Path
from typing import IO, Any

# Before gradio is imported: otherwise it starts a thread that calls home.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")

import qa_lora.evaluation
import qa_lora.training
import qa_lora.ui.build  # noqa: F401 - loaded here, so that no child has to
from qa_lora import processes, worker
from qa_lora.cli import main
from tests.loopback_hub.clients import read_variables_again

FORK = multiprocessing.get_context("forkserver")
ROOT = Path(__file__).parents[1]
SECONDS = 240


class Passed:
    """The number of an open file, which is another one in the child."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> Any:
        return _received, (reduction.DupFd(self.number),)


def _received(file: Any) -> int:
    number: int = file.detach()
    return number


def start_server() -> None:
    """Start what the children are forked from, unless it runs."""
    FORK.set_forkserver_preload([__name__])
    path = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *sys.path])
    try:
        forkserver.ensure_running()
    finally:
        del os.environ["PYTHONPATH"]
        if path is not None:
            os.environ["PYTHONPATH"] = path


class Child:
    """A forked process; what it prints is kept."""

    def __init__(
        self,
        function: Callable[..., Any],
        *args: Any,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
        output: int | None = None,
        session: bool = False,
    ) -> None:
        """Start a function in a process of its own; its exit code is what the function returns.

        Args:
            function: Is called there.
            args: For it.
            cwd: The folder it works in.
            environment: Variables it has beside those of the tests.
            output: The number of an open file for all that it prints, instead of `out` and `err`.
            session: Whether it leaves the session of the tests.
        """
        self._files: list[IO[bytes]] = []
        if output is None:
            self._files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115
        numbers = [file.fileno() for file in self._files] or [output, output]
        start_server()
        self.process = FORK.Process(
            target=_child,
            args=(
                function,
                args,
                cwd or Path.cwd(),
                {**os.environ, "TOKENIZERS_PARALLELISM": "false", **(environment or {})},
                [Passed(number) for number in numbers],
                session,
            ),
            daemon=True,
        )
        self.process.start()
        assert self.process.pid is not None
        self.pid = self.process.pid

    def __del__(self) -> None:
        for file in self._files:
            file.close()

    @property
    def out(self) -> str:
        """What it has printed."""
        return self._read(0)

    @property
    def err(self) -> str:
        """What it has printed to its error output."""
        return self._read(1)

    def alive(self) -> bool:
        return self.process.is_alive()

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        self.process.kill()
        self.process.join()

    def wait(self, seconds: float = SECONDS) -> int:
        """Its exit code, once it has ended; minus the signal that killed it."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, self.out + self.err
        return self.process.exitcode

    def _read(self, number: int) -> str:
        file = self._files[number].fileno()
        return os.pread(file, os.fstat(file).st_size, 0).decode()


def exit_code(function: Callable[..., Any], *args: Any) -> int:
    """The exit code of a child that calls the function."""
    return Child(function, *args).wait()


def qa_lora_command(
    *arguments: str, cwd: Path, environment: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """What ``python -m qa_lora`` does with these arguments, in a child."""
    child = Child(main, list(arguments), cwd=cwd, environment=environment)
    code = child.wait()
    return subprocess.CompletedProcess(list(arguments), code, child.out, child.err)


def spawn(folder: Path) -> None:
    """In place of :func:`qa_lora.processes.spawn`: the worker of a run as a child."""
    reading, writing = os.pipe()
    with (folder / "worker.log").open("ab") as log:
        child = Child(_work, Passed(reading), folder.resolve(), output=log.fileno(), session=True)
    os.close(reading)
    processes.note(folder, child.pid)
    os.close(writing)


def _work(noted: int, folder: Path) -> int:
    os.read(noted, 1)  # a new interpreter takes longer to start than its starter to note it
    return worker.main([str(folder)])


def several(
    number: int,
    function: Callable[..., Any],
    *args: Any,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
) -> list[Child]:
    """Children that train together, with the variables that ``accelerate launch`` gives them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        "WORLD_SIZE": str(number),
        "LOCAL_WORLD_SIZE": str(number),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        **(environment or {}),
    }
    return [
        Child(
            _and_leave, function, args, cwd=cwd,
            environment={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(number)
    ]  # fmt: skip


def _and_leave(function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    from qa_lora import distributed

    code = function(*args)
    distributed.leave()
    return code


def _child(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    cwd: Path,
    environment: Mapping[str, str],
    output: list[int],
    session: bool,
) -> None:
    if session:
        os.setsid()
    for number, file in enumerate(output, 1):
        os.dup2(file, number)
    sys.stdin = open(os.devnull)  # noqa: PTH123, SIM115 - as long as the process
    sys.stdout, sys.stderr = (os.fdopen(n, "w", closefd=False) for n in (1, 2))
    # Whoever started the tests may ignore them, as a shell does for what it leaves behind.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    if "HF_ENDPOINT" in environment:
        read_variables_again()
    code = function(*args)
    sys.stdout.flush()
    sys.exit(code)
