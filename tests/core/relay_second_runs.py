"""What tests of second runs begin with: servers whose calls may run twice, and their streams."""

from tests.core.relay_driver import MAY_HAVE_RUN
from tests.core.relay_parts import notification

SAFE = {"tools": ["write"]}
LOST_7 = (7, *MAY_HAVE_RUN)


def progress(step, token=7) -> bytes:
    return notification("notifications/progress", progressToken=token, progress=step)


def safe_world(world, *names, **options):
    retry = SAFE | options.pop("retry", {})
    return world(*(names or ("a",)), has_ids=options.pop("has_ids", False), retry=retry, **options)


async def second_run(its, *, key=7, but=None):
    """The server's end of the stream that goes on, once it is there."""
    for _ in range(100):
        await its.time.pass_s(0.1)
        for server in its.servers.values():
            stream = server.calls.get(key)
            if stream is not None and stream is not but and stream.connection.is_open:
                return stream
    raise AssertionError("nobody runs it again")
