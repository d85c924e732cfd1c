"""What the process does first from which workers fork (`executors.Workers`): outlive them, and hand no handler down.

Whoever ends all processes of a study at once ends the workers, too, and these are to tell how they ended. What it has
imported by then they share with it: to look through that for garbage would write to all of it.
"""

from __future__ import annotations

import gc
import os
import signal

from pipeline import cli


def _restore() -> None:
    gc.set_threshold(*_threshold)
    for number in _IGNORED:
        signal.signal(number, signal.SIG_DFL)


_IGNORED = (signal.SIGTERM, signal.SIGHUP)
for number in _IGNORED:
    signal.signal(number, signal.SIG_IGN)
_threshold = gc.get_threshold()
gc.set_threshold(cli.COLLECT_AFTER)
os.register_at_fork(before=gc.freeze, after_in_child=_restore)
