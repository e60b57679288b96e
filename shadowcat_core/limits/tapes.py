"""Limits of tapes and their writing."""

from shadowcat_core.limits.limit import KiB, Limit, MiB

TAPE_FLUSH_RECORDS = Limit(
    100,
    unit="records",
    reason="Records waiting for the tape that wake its writer before the interval is over: enough to make one write "
    "cheap, few enough to be on disk within milliseconds under load.",
)
TAPE_FLUSH_MS = Limit(
    100,
    unit="milliseconds",
    reason="Longest wait of a record for its write, so what a kill -9 can cost. A person watching the file cannot "
    "tell it from at once, and ten wake-ups a second cost nothing.",
)
TAPE_FLUSH_BYTES = Limit(
    256 * KiB,
    unit="bytes",
    reason="Captured bytes of one write. A backlog is written in several, so the writer's copies stay in the "
    "processor's cache: records of 20 KB cost two thirds of what they do at 1 MiB (benches/bench_recorder.py).",
)
TAPE_QUEUE_RECORDS = Limit(
    20_000,
    unit="records",
    reason="Records waiting for the tape: two seconds at 10,000 a second, longer than a disk hiccup. Beyond it records "
    "are dropped from the tape, never from the wire, and a gap on the tape counts them.",
)
TAPE_QUEUE_BYTES = Limit(
    16 * MiB,
    unit="bytes",
    reason="Captured bytes waiting for the tape, over all exchanges; the last record taken may pass it. Beyond it as "
    "for records.",
)
TAPE_GAP_EXCHANGES = Limit(
    1_000,
    unit="exchanges",
    reason="Exchanges one gap names. A gap that touched more still counts every record and byte.",
)
TAPE_RUN_BYTES = Limit(
    64 * KiB,
    unit="bytes",
    reason="Consecutive chunks of one stream share a line of the tape up to this size, so a line stays readable.",
)
TAPE_LINE_BYTES = Limit(
    512 * MiB,
    unit="bytes",
    reason="One line of a tape when reading. Larger than any body a proxy holds in memory; beyond it the line is "
    "damage, as a file without line ends would otherwise be read whole.",
)
