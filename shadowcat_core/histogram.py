"""Durations counted in power-of-two buckets: plain ints, a fixed size, one add to count. No I/O."""

from operator import add

_BUCKETS = 40
"""2**39 µs is six days: longer than any exchange this process will see."""


class Histogram:
    """Counts durations given in nanoseconds; answers in microseconds, exact to a factor of two."""

    __slots__ = ("buckets", "count", "max_us", "total_us")

    def __init__(self) -> None:
        self.buckets = [0] * _BUCKETS
        """`buckets[n]` counts durations of 2**(n-1) up to 2**n µs; `buckets[0]` those under one."""
        self.count = 0
        self.total_us = 0
        self.max_us = 0

    def add(self, duration_ns: int) -> None:
        """Count one duration; a negative one (a clock that stepped) counts as zero."""
        us = duration_ns // 1000 if duration_ns > 0 else 0
        self.buckets[min(us.bit_length(), _BUCKETS - 1)] += 1
        self.count += 1
        self.total_us += us
        if us > self.max_us:
            self.max_us = us

    def quantile_us(self, fraction: float) -> int:
        """The upper bound, in µs, of the bucket in which the given fraction (0 to 1) of all durations is reached."""
        wanted = fraction * self.count
        seen = 0
        for bits, count in enumerate(self.buckets):
            seen += count
            if count and seen >= wanted:
                return min(1 << bits, self.max_us)
        return 0

    def merge(self, other: "Histogram") -> None:
        """Add everything that `other` has counted."""
        self.buckets = list(map(add, self.buckets, other.buckets))
        self.count += other.count
        self.total_us += other.total_us
        self.max_us = max(self.max_us, other.max_us)
