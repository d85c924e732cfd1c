"""The machine on which something is measured, in a line that says whether it is quiet."""

from __future__ import annotations

import os

import psutil

_LOOK_SECONDS = 3.0
_BUSY = 0.1  # of all processors, from which on a figure means little


def line() -> str:
    """How many processors there are, what else keeps them busy now, and the load average of the last minute."""
    processors, busy = len(os.sched_getaffinity(0)), psutil.cpu_percent(_LOOK_SECONDS) / 100
    told = f"on {processors} processors, {busy:.0%} busy before, load average {os.getloadavg()[0]:.2f}"
    return f"{told}: TOO BUSY for figures to mean anything, end what else runs" if busy > _BUSY else told
