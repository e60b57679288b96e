"""What a proxy has counted, told to Prometheus and its like.

Counters are plain ints that belong to whoever counts them; here they are read when somebody asks, and nothing else is
done for it. So nothing is on the wire's path, and without anybody who asks this room is not even imported.
`docs/metrics.md` is the manual.
"""

from shadowcat_core.metrics.proxy import ProxyMetrics
from shadowcat_core.metrics.relay import RelayState
from shadowcat_core.metrics.server import MetricsServer

__all__ = ["MetricsServer", "ProxyMetrics", "RelayState"]
