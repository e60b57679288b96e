"""Whether what a client asked may be sent again, by all that is known of it. No I/O.

`docs/upstreams.md` has the table.
"""

from shadowcat_core.relay.asked import Asked
from shadowcat_core.relay.course import Course
from shadowcat_core.relay.world import World
from shadowcat_core.upstreams import Retry, may_retry_all


def may_repeat(world: World, course: Course, asked: Asked, *, sent: bool) -> Retry:
    """Decide about a request whose server has not answered it; `sent` tells whether any byte of it may have left."""
    world.catch_up()
    route = course.pool.route
    return may_retry_all(
        asked.messages,
        sent=sent,
        answered=False,
        book=world.books[route.name],
        policy=route.retry,
        upstream=course.upstream,
        http_method=asked.method,
    )
