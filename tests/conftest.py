"""Settings that hold for every test."""

from hypothesis import settings

# A shared two-core machine stalls for seconds now and then: an example that took long says nothing about the code.
settings.register_profile("shadowcat", deadline=None, print_blob=True)
settings.load_profile("shadowcat")
