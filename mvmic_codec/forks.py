"""What a process that was forked must know: how its networks can run at all.

Threads do not survive a fork. The child of a process that has run torch on several threads would
wait for these for ever as soon as it shares work out, so torch does all work there on one thread.
Decoding in C needs none of this: it starts and ends its threads in each call.

`mvmic_codec` imports this module first of all, since only forks after the import are noticed.
"""

from __future__ import annotations

import os
import sys

_forked = False
_limited = False


def was_forked() -> bool:
    """Whether this process was forked from one that had imported torch."""
    return _forked


def limit_threads() -> None:
    """Make torch use one thread from now on if this process `was_forked`.

    Only the first call does so, so that a child can set another number after it.
    """
    global _limited
    if _forked and not _limited:
        import torch

        torch.set_num_threads(1)
        _limited = True


def _note_fork() -> None:
    global _forked, _limited
    # Without torch in the parent there were no threads of torch to lose.
    if "torch" in sys.modules:
        _forked, _limited = True, False


# Windows has no forks.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)
