"""A dedup window recognises repeated ids and forgets the oldest first."""

from shadowcat_core.dedup import DedupWindow
from shadowcat_core.limits import DEDUP_WINDOW_IDS


def test_a_repeated_id_is_recognised():
    window = DedupWindow()
    assert [window.seen(i) for i in ("a", "", "a", "a", "c", "")] == [False, False, True, True, False, True]


def test_the_window_is_bounded_and_forgets_the_oldest_first():
    window = DedupWindow(max_ids=3)
    for event_id in ("a", "", "c", "d"):
        window.seen(event_id)
    assert len(window) == 3
    assert [window.seen(i) for i in ("", "c", "d")] == [True, True, True]
    assert not window.seen("a")


def test_the_default_window_is_the_documented_one():
    window = DedupWindow()
    for i in range(5_000):
        window.seen(str(i))
    assert len(window) == DEDUP_WINDOW_IDS == 1_000


def test_long_ids_are_recognised_and_cost_no_more_than_short_ones():
    window = DedupWindow()
    assert [window.seen("x" * 200_000), window.seen("y" * 200_000), window.seen("x" * 200_000)] == [False, False, True]
    assert all(len(known) <= 64 for known in window._ids)
