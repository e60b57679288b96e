"""A script for mitmproxy that does a full garbage collection when asked, and says how long nothing else went on."""

import gc
import time

from mitmproxy import http

COLLECT = "/collect"
TOOK = "X-Collection-Ns"


class Collect:
    def request(self, flow: http.HTTPFlow) -> None:
        if flow.request.path == COLLECT:
            started = time.perf_counter_ns()
            gc.collect()
            flow.response = http.Response.make(204, b"", {TOOK: str(time.perf_counter_ns() - started)})


addons = [Collect()]
