"""What every entry point does the same: arguments from a model, a mistake in one line, a signal as an exception."""

from __future__ import annotations

import argparse
import atexit
import contextlib
import errno
import gc
import importlib.util
import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import psutil
from pydantic import BaseModel, ValidationError

from pipeline import terminal
from pipeline.errors import HungUp, Interrupted, UserError, first_line
from pipeline.texts import command, did_you_mean, quoted, several
from pipeline.tracking.names import LAUNCHED

try:
    import resource
except ImportError:  # Windows, where no such limit is set
    resource = None  # type: ignore[assignment]

_LAUNCHER = "VARIATIONS_LAUNCHER"  # the process ID of `mlflow run`, which MLproject's commands hand on
INTERRUPTED = 130  # the exit code that shells give to Ctrl-C
COLLECT_AFTER = 50_000  # new objects: Python's own 700 (2,000 in 3.13) look through all that is imported, for a second
_AGAIN_SECONDS = 0.1
_HANG_UP = getattr(signal, "SIGHUP", None)  # Windows has none
_SIGNALS = tuple(number for number in (signal.SIGINT, signal.SIGTERM, _HANG_UP) if number)
_interrupted: list[type[BaseException]] = []

_MLFLOW_BYTES = 2**30  # of addresses, most of which are never touched

# What libraries say, by whatever class of error, where there is no memory left; and the numbers of the system's errors
# that say so, of files and disks too.
_NO_MEMORY = ("failed to map segment", "annot allocate memory", "can't start new thread", "Unable to allocate")
_EXHAUSTED = (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.EMFILE, errno.ENFILE)

Options = TypeVar("Options", bound=BaseModel)


def parse_arguments(options: type[Options], argv: Sequence[str] | None, entry_point: str, description: str) -> Options:
    """The command line of `options`: one `--name value` for each of its fields; a switch needs no value.

    Args:
        entry_point: such as `train`; the usage line has it as the user called it.

    Raises:
        UserError: an unknown name, a missing value, or a value that `options` does not allow.
    """
    parser = _Parser(prog=command(entry_point), description=description, allow_abbrev=False)
    for name, field in options.model_fields.items():
        about = f"{field.description} (default: {field.default})".replace("%", "%%")
        how: dict[str, Any] = {"nargs": "?", "const": "true"} if field.annotation is bool else {}
        parser.add_argument(f"--{name}", default=argparse.SUPPRESS, help=about, metavar="VALUE", **how)
    given, unknown = parser.parse_known_args(_joined(sys.argv[1:] if argv is None else argv, options))
    if unknown:
        require_known(unknown[0].split("=")[0].lstrip("-"), options.model_fields)
    return checked(options, vars(given))


def require_known(name: str, known: Collection[str]) -> None:
    """Refuse a name that is none of the parameters.

    Raises:
        UserError: it is not.
    """
    if name not in known:
        allowed = f"the parameters are {', '.join(known)}" if known else "there are no parameters"
        raise UserError(f"unknown parameter {quoted(name)}{did_you_mean(name, known)}; {allowed}")


def checked(options: type[Options], given: Mapping[str, Any]) -> Options:
    """Options of values by name.

    Raises:
        UserError: a value that `options` does not allow.
    """
    try:
        return options.model_validate(dict(given))
    except ValidationError as error:
        raise UserError(_one_line(error, options)) from None


def _joined(words: Sequence[str], options: type[BaseModel]) -> list[str]:
    """`--l1 -1e-5` as `--l1=-1e-5`: argparse would take such a value for an option. `--dry-run` is `--dry_run`.

    A field whose schema has `also` or `formerly` is known by that name, too.
    """

    def named(how: str) -> dict[str, str]:
        extras = {name: field.json_schema_extra for name, field in options.model_fields.items()}
        return {str(e[how]): name for name, e in extras.items() if isinstance(e, dict) and how in e}

    former = named("formerly")
    names = {**former, **named("also")}
    switches = {f"--{name}" for name, field in options.model_fields.items() if field.annotation is bool}
    joined: list[str] = []
    for word in words:
        last = joined[-1] if joined else ""
        if re.fullmatch(r"--\w+", last) and last != "--help" and not (last in switches and word.startswith("--")):
            joined[-1] += f"={word}"
        else:
            name, equals, value = word.partition("=")
            known = name[2:].replace("-", "_")
            if known in former:
                print(f"{name} is now called --{former[known]}", file=sys.stderr)
            joined.append(f"--{names.get(known, known)}{equals}{value}" if name.startswith("--") else word)
    return joined


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise UserError(f"{message}; see {self.prog} --help")


def _one_line(error: ValidationError, options: type[BaseModel]) -> str:
    parts = []
    for problem in error.errors():
        rule = problem["msg"].removeprefix("Value error, ").removeprefix("Input ")
        if not problem["loc"]:  # of several parameters together
            parts.append(rule)
            continue
        name = str(problem["loc"][0])
        default = options.model_fields[name].default
        usual = f" (default: {default})" if default not in ("", ()) else ""
        parts.append(f"{name}={quoted(problem['input'])} cannot be used: {rule}{usual}")
    return several(parts)


def user_path(path: str | Path, name: str, wanted: str = "the path of a file") -> Path:
    """A path that a user gave as the parameter `name`, with `~` expanded: it exists, and may be looked at.

    Raises:
        UserError: it is not so (missing, too long, of an unknown user, in a closed directory, not a path at all);
            the line ends with `wanted`, what to give instead.
    """
    try:
        found = Path(path).expanduser()
        found.stat()
        return found
    except (FileNotFoundError, NotADirectoryError):
        reason = "does not exist"
    except RuntimeError:  # `~nobody/images.npz`
        reason = "is in the home of a user that is not known here"
    except (OSError, ValueError) as error:  # ValueError: of a character that no path has
        reason = f"cannot be opened ({_reason(error)})"
    raise UserError(f"{name}={quoted(path)} {reason}; give {wanted}")


def read_user_file(path: str | Path, name: str, limit_bytes: int, wanted: str = "the path of a file") -> bytes:
    """The content of a file that a user gave as the parameter `name`; never waits for a pipe, never reads without end.

    Raises:
        UserError: as `user_path`; or it is no regular file, is larger than `limit_bytes`, or cannot be read.
    """
    found = user_path(path, name, wanted)
    if not found.is_file():
        kind = "a directory" if found.is_dir() else "a pipe or a device"
        raise UserError(f"{name}={quoted(path)} is {kind}; give {wanted}")
    try:
        with found.open("rb") as file:
            content = file.read(limit_bytes + 1)
    except OSError as error:
        raise UserError(f"{name}={quoted(path)} cannot be read ({_reason(error)}); give {wanted}") from None
    if len(content) > limit_bytes:
        raise UserError(f"{name}={quoted(path)} is larger than {limit_bytes:,} bytes; give {wanted}")
    return content


def _reason(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or first_line(error)


def run(call: Callable[[], str], entry_point: str = "") -> int:
    """Call, print what it returns, and return the exit code: 0, 2 for a `UserError`, 130 when interrupted.

    Output that nobody takes any more (`| head`, a full disk) does not end what is at work: that is said at the end,
    and the code is 2. A run that `mlflow run` opened for this process and that `call` did not take up ends with it,
    and with the reason.

    Args:
        entry_point: of MLproject; its runs that nobody took up are named after it.
    """
    with terminal.outputs() as output:
        before, sys.unraisablehook = sys.unraisablehook, _raise_again
        try:
            code = _run(call, output, entry_point)
        except (KeyboardInterrupt, Interrupted):  # once more: the user does not want to wait for the ending either
            code = INTERRUPTED
        finally:
            sys.unraisablehook = before
        sys.stdout.flush()
        sys.stderr.flush()
        lost = output and output.error
        if code or not lost:
            return code
        _say(f"not all of the output could be written ({lost.strerror}); what it is about is done")
        return 0 if os.environ.get(LAUNCHED) else 2  # for which `mlflow run` would mark the run as FAILED


def _run(call: Callable[[], str], output: terminal.Output | None, entry_point: str) -> int:
    _interrupted.clear()
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as it is under nohup
            signal.signal(number, interrupt)
    launched_run, launcher = os.environ.get(LAUNCHED), _launcher()
    if launched_run:
        threading.Thread(target=_end_with, args=(launcher,), daemon=True).start()
    try:
        _enter_callers_folder()
        if launched_run:
            from pipeline.tracking import journal  # a mistake should not wait for what few need

            journal.begin_launched(launched_run, entry_point)
        _require_surroundings(output)
        print(terminal.printable(call()))
        _end_launched_run(None, entry_point)
        return 0
    except UserError as error:
        _say(str(error))
        _end_launched_run(error, entry_point)
        return 2
    except (KeyboardInterrupt, Interrupted) as error:
        print(terminal.printable(str(error) or "interrupted"), file=sys.stderr, flush=True)
        _end_launched_run(error, entry_point)
        if launched_run and os.getppid() == launcher:
            _keep_killed(launched_run, launcher)
        return INTERRUPTED
    except Exception as error:
        _end_launched_run(error, entry_point)
        lack = _lack(error)
        if not lack:
            raise  # a mistake of ours, which a traceback helps to find
        _say(lack)
        return 2


def _say(message: str) -> None:
    print(terminal.error_line(message), file=sys.stderr, flush=True)


def _enter_callers_folder() -> None:
    """Be where `mlflow run` was typed: relative paths mean that folder.

    MLflow starts the command in the project's folder, which is a temporary clone where the project is a git URL.
    Workers begin where this process is. Called directly, an entry point is there already.
    """
    if launcher := os.environ.get(_LAUNCHER):
        with contextlib.suppress(psutil.Error, OSError):  # it is gone, which `_end_with` sees, or its folder is
            os.chdir(psutil.Process(int(launcher)).cwd())


def _require_surroundings(output: terminal.Output | None) -> None:
    """What every entry point needs of the process that it is started in.

    Raises:
        UserError: it is not so.
    """
    if output is None:
        raise UserError("standard output is closed; give it a place, such as > /dev/null")
    if sys.flags.optimize > 1:
        raise UserError("PYTHONOPTIMIZE=2 (python -OO) removes docstrings that MLflow reads; unset it, or set it to 1")
    try:
        os.getcwd()
    except OSError as error:
        raise UserError(f"the working directory is gone ({error.strerror}); change to one that exists") from None
    require_addresses(_MLFLOW_BYTES, "MLflow")
    if sys.warnoptions:  # -W or PYTHONWARNINGS: a warning of a library is no error of this program, whatever they say
        sys.warnoptions[:] = [option for option in sys.warnoptions if not option.startswith("e")]
        os.environ["PYTHONWARNINGS"] = ",".join(sys.warnoptions)  # of the processes that train
        warnings.filters[:] = [known for known in warnings.filters if known[0] != "error"]  # type: ignore[index]


def require_installed(extra: str, *modules: str) -> None:
    """Refuse to begin what needs an extra of this package that is not installed.

    Raises:
        UserError: one of its modules is missing.
    """
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(
            f"{' and '.join(missing)} must be installed to {extra}: pip install 'autoencoder-variations[{extra}]', "
            f"or in a checkout pip install '.[{extra}]'"
        )


def require_addresses(needed: int, library: str) -> None:
    """Refuse a limit (`ulimit -v`) under which a library does not raise an error, but hangs or ends the process.

    Raises:
        UserError: the limit is lower than the bytes needed.
    """
    if resource is None:
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if 0 <= limit < needed:  # -1 is none
        raise UserError(
            f"this process may use {limit / 2**30:.1f} GiB of addresses, of which {library} needs "
            f"{needed / 2**30:.0f}; raise the limit (ulimit -v)"
        )


def _lack(error: Exception) -> str:
    """What the machine has not enough of, where an error says so; nothing where it is another error."""
    text = first_line(error)
    if isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY):
        return f"there is not enough memory ({text}); free some, or raise the limit (ulimit -v)"
    if isinstance(error, OSError) and error.errno in _EXHAUSTED:
        return f"{text}; free some, or raise the limit (ulimit -a)"
    return ""


def leave(main: Callable[[], int]) -> None:
    """Call and exit, without Python's own end, which may take TensorFlow apart for a second, or for a minute."""
    gc.set_threshold(COLLECT_AFTER)
    code: int | None = None

    def end() -> None:
        if code is not None:  # else there is an error to be shown
            for stream in filter(None, (sys.stdout, sys.stderr)):
                with contextlib.suppress(OSError, ValueError):  # nobody may take it any more
                    stream.flush()
            os._exit(code)

    atexit.register(end)  # the first that is registered is called behind all that libraries register
    try:
        code = main()
    except (KeyboardInterrupt, Interrupted):
        code = INTERRUPTED
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # Python's own end shows a traceback
    if code == INTERRUPTED:
        end()
    sys.exit(code)


def _ignore(signum: int, frame: Any) -> None:
    """In place of SIG_IGN: of a signal that has come just before, Python says with a traceback that it was ignored."""


def interrupt(signum: int, frame: Any) -> None:
    """Make an exception of a signal, of which a run can end as KILLED."""
    # On Ctrl-C `mlflow run` sends SIGTERM after the terminal's SIGINT: it must not disturb the ending of the run. A
    # terminal that is closed sends SIGHUP, and then takes what was to be printed.
    for number in _SIGNALS[1:]:
        signal.signal(number, _ignore)
    kinds: dict[int | None, type[BaseException]] = {signal.SIGINT: KeyboardInterrupt, _HANG_UP: HungUp}
    _interrupted.append(kinds.get(signum, Interrupted))
    if signum == _HANG_UP:
        _leave_terminal()
    raise _interrupted[-1]


def _leave_terminal() -> None:
    """Print nowhere: writing to a terminal that is closed is an error."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        if not os.path.sameopenfile(stream, nowhere) and not stat.S_ISREG(os.fstat(stream).st_mode):
            os.dup2(nowhere, stream)
    os.close(nowhere)


def _raise_again(swallowed: Any) -> None:
    """Python swallows, and shows, what a signal raises while an object is cleaned up: have it raised in a moment."""
    if not isinstance(swallowed.exc_value, (KeyboardInterrupt, Interrupted)):
        sys.__unraisablehook__(swallowed)
        return
    again = signal.SIGINT if isinstance(swallowed.exc_value, KeyboardInterrupt) else signal.SIGTERM
    signal.signal(again, interrupt)
    timer = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), again))
    timer.daemon = True  # where nothing is at work any more, there is nothing to interrupt
    timer.start()


def end_if_interrupted() -> None:
    """Raise once more what a signal has raised: Keras swallows it where it prepares its logs."""
    if _interrupted:
        raise _interrupted[-1]


def _launcher() -> int:
    """The process ID of `mlflow run`: the shell of MLproject's commands has seen it before Python began to import."""
    return int(os.environ.get(_LAUNCHER) or os.getppid())


def _end_with(launcher: int) -> None:
    """End when `mlflow run` does: killed, it would leave its child training and the run RUNNING."""
    while os.getppid() == launcher:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _end_launched_run(error: BaseException | None, name: str) -> None:
    if os.environ.get(LAUNCHED):
        with contextlib.suppress(MemoryError, ImportError):  # there may be no room for MLflow, either
            from pipeline.tracking import launched

            launched.end(error, name)


def _keep_killed(run_id: str, launcher: int) -> None:
    """Have the run marked KILLED once more after `mlflow run` has ended, from a process that outlives both.

    MLflow 3.17 writes FAILED over whatever its child has said: it means to leave an ended run alone, but looks for
    the status's name among numbers (`mlflow.projects._maybe_set_run_terminated`).
    """
    code = f"from pipeline.tracking import launched; launched.keep_killed({run_id!r}, {launcher})"
    nowhere = subprocess.DEVNULL
    subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},  # where `pipeline` is, installed or not
        start_new_session=True,
        stdin=nowhere,
        stdout=nowhere,
        stderr=nowhere,
    )
