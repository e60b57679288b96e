"""Puts something of ours in the place of something of mitmproxy's, and takes it out again."""

from collections.abc import Callable


def replace(owner: type, name: str, ours: Callable[..., object]) -> Callable[[], None]:
    """Give `owner` another attribute of this name. Returns what undoes this, unless somebody else has replaced it."""
    its = getattr(owner, name)
    setattr(owner, name, ours)

    def undo() -> None:
        if getattr(owner, name) is ours:
            setattr(owner, name, its)

    return undo
