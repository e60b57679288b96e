"""What a limit is."""

from typing import Self

KiB = 1024
MiB = 1024 * KiB


class Limit(int):
    """A whole number with its `unit` and the `reason` for its default."""

    unit: str
    reason: str

    def __new__(cls, value: int, *, unit: str, reason: str) -> Self:
        limit = super().__new__(cls, value)
        limit.unit = unit
        limit.reason = reason
        return limit
