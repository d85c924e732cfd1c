"""What the process does first from which workers fork (`executors.Workers`): outlive them, and hand nothing down.

Whoever ends all processes of a study at once ends the workers, too, and these are to tell how they ended.
"""

from __future__ import annotations

import os
import signal


def _restore() -> None:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_DFL)


_IGNORED = (signal.SIGTERM, signal.SIGHUP)
for number in _IGNORED:
    signal.signal(number, signal.SIG_IGN)
os.register_at_fork(after_in_child=_restore)
