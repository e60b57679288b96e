"""Settings that hold for every test."""

import signal

from hypothesis import settings

# A shared two-core machine stalls for seconds now and then: an example that took long says nothing about the code.
settings.register_profile("shadowcat", deadline=None, print_blob=True)
settings.load_profile("shadowcat")

# A shell that runs the tests in the background makes them ignore Ctrl-C, and so would the programs that they start.
signal.signal(signal.SIGINT, signal.default_int_handler)
