"""What can go wrong, as exceptions whose text is one line for a person and says no password."""

from __future__ import annotations

from pipeline.texts import redacted


class UserError(Exception):
    """A mistake of the user's or of the surroundings: one line that says what, what is allowed, what to do.

    It says no password.
    """

    def __str__(self) -> str:
        return redacted(super().__str__())


class DivergenceError(UserError):
    """The loss is no number any more, so there is nothing left to train.

    It is here, and not in `training`, for the process that a study's workers report to: it does without TensorFlow.
    """


class Interrupted(BaseException):
    """SIGTERM or SIGHUP, as an exception, so that a run can end as KILLED. Ctrl-C has its own, KeyboardInterrupt."""


class HungUp(Interrupted):
    """SIGHUP."""


def first_line(error: BaseException) -> str:
    """What an error says, for use in such a line: its first line, or its type where it says nothing."""
    return redacted((str(error).strip() or type(error).__name__).splitlines()[0])
