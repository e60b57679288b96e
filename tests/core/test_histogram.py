"""A histogram counts durations in fixed space and answers to a factor of two."""

from shadowcat_core.histogram import Histogram


def test_an_empty_histogram_answers_zero():
    assert Histogram().quantile_us(0.5) == 0


def test_quantiles_are_upper_bounds_of_their_bucket():
    histogram = Histogram()
    for us in range(1, 101):
        histogram.add(us * 1000)
    assert histogram.count == 100
    assert histogram.total_us == 5050
    assert histogram.max_us == 100
    assert histogram.quantile_us(0.5) == 64
    assert histogram.quantile_us(0.99) == 100
    assert histogram.quantile_us(1.0) == 100


def test_under_a_microsecond_and_a_clock_that_stepped_back_count_as_zero():
    histogram = Histogram()
    histogram.add(999)
    histogram.add(-5_000_000)
    assert histogram.buckets[0] == 2
    assert histogram.quantile_us(1.0) == 0


def test_a_duration_beyond_the_last_bucket_is_counted_in_it():
    histogram = Histogram()
    histogram.add(10**30)
    assert histogram.buckets[-1] == 1


def test_merging_adds_everything_up():
    one, other = Histogram(), Histogram()
    one.add(5_000)
    other.add(700_000)
    one.merge(other)
    assert (one.count, one.total_us, one.max_us) == (2, 705, 700)
    assert one.quantile_us(1.0) == 700
