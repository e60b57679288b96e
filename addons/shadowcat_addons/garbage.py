"""What the suite has Python's garbage collector do: collect often and little, and leave alone what stays anyway."""

import gc
from typing import ClassVar

_YOUNG_OBJECTS = 500
"""After how many new ones the young are collected. Each flow of mitmproxy's ends as some thirty objects that refer to
one another, with its bodies on them, and Python counts objects, not bytes: at its own 2,000, the bodies of sixty flows
would stay until then."""


class Garbage:
    """Belongs to the process, so there is one at a time."""

    _has_run: ClassVar = False

    def __init__(self) -> None:
        self._before: tuple[int, int, int] | None = None

    def running(self) -> None:
        """All is loaded."""
        if Garbage._has_run:
            gc.collect()  # a script that is reloaded leaves the suite before behind, which would stay as well
        Garbage._has_run = True
        # All that was loaded so far stays. Else each full collection would look through it, some 70 ms in which no
        # stream moves.
        gc.freeze()
        self._before = before = gc.get_threshold()
        if before[0] > _YOUNG_OBJECTS:
            gc.set_threshold(_YOUNG_OBJECTS, *before[1:])

    def done(self) -> None:
        """Have it as it was."""
        gc.unfreeze()
        if self._before is not None:
            gc.set_threshold(*self._before)
            self._before = None
