"""Run Lua scripts on a Redis server or cluster: many in one round trip, loaded when the server does not know them.

The package `redis` is optional (`pip install shadowcat[redis]`).
"""

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any, Final, Protocol

from shadowcat_core.errors import StoreError, StoreUnavailable

type Value = str | bytes | int
type Answer = Any
"""What a script gave: bytes, int, None, or a list of these. The driver's own type."""

_CONNECTIONS: Final = 16
INSTALL: Final = "the Redis store needs redis-py: pip install 'shadowcat[redis]'"


class Commands(Protocol):
    """What can take commands: a client, which sends them, or a pipeline, which gathers them."""

    def execute_command(self, *args: Any, **options: Any) -> Any: ...


class Pipeline(Commands, Protocol):
    """Commands that are sent together."""

    async def execute(self, raise_on_error: bool = True) -> list[Any]: ...


class RedisClient(Commands, Protocol):
    """What is used of `redis.asyncio.Redis` and of `redis.asyncio.cluster.RedisCluster`."""

    def pipeline(self, transaction: Any = None) -> Any: ...

    def get_encoder(self) -> Any: ...

    async def aclose(self) -> None: ...


class Script:
    """A Lua script and the name that Redis gives it."""

    __slots__ = ("sha", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Call:
    """A script with its keys, all of which have one hash tag, and its other arguments."""

    script: Script
    keys: Sequence[str]
    arguments: Sequence[Value] = ()

    @property
    def command(self) -> tuple[Value, ...]:
        """The words of the command."""
        return ("EVALSHA", self.script.sha, len(self.keys), *self.keys, *self.arguments)


def connect(url: str, timeout_ms: int) -> RedisClient:
    """Make a client for a `redis://`, `rediss://` or `unix://` URL, with a connection pool of its own.

    Nothing is sent twice by itself: a connection that broke is an error at once, and the policy for outages decides.

    Raises:
        StoreError: redis-py is not installed, or the URL is none of these.
    """
    try:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff
    except ModuleNotFoundError as exc:
        raise StoreError(INSTALL) from exc
    timeout_s = timeout_ms / 1000
    try:
        client: RedisClient = Redis.from_url(
            url,
            socket_timeout=timeout_s,
            socket_connect_timeout=timeout_s,
            retry=Retry(NoBackoff(), 0),
            # With RESP3, redis-py's pool hands out connections that died with a server without a look at them.
            protocol=2,
        )
    except ValueError as exc:
        raise StoreError(f"{exc}") from exc
    return client


class RedisLink:
    """A client that answers in time, with values or StoreUnavailable, nothing else."""

    def __init__(self, client: RedisClient, timeout_ms: int) -> None:
        try:
            from redis.exceptions import NoScriptError, RedisError
        except ModuleNotFoundError as exc:
            raise StoreError(INSTALL) from exc
        self._client = client
        self._timeout_s = timeout_ms / 1000
        # A pool without a free connection is an error to redis-py; a burst should wait its turn instead.
        self._turns = asyncio.Semaphore(_CONNECTIONS)
        self._no_script = NoScriptError
        # A connection that breaks, a name that cannot be resolved, a time-out: not all of them become redis-py's own.
        self._errors = (RedisError, OSError, TimeoutError)

    async def run(self, call: Call) -> Answer:
        """Run one script: one round trip.

        Raises:
            StoreUnavailable: no answer in time, or an answer that is an error.
        """
        try:
            async with asyncio.timeout(self._timeout_s), self._turns:
                return await self._client.execute_command(*call.command)
        except self._no_script:
            return (await self.run_all([call]))[0]
        except self._errors as exc:
            raise _unavailable(exc) from exc

    async def run_all(self, calls: Sequence[Call]) -> Sequence[Answer]:
        """Run scripts in order: one round trip (in a cluster, one to each node, at the same time).

        Raises:
            StoreUnavailable: as in `run`, for any of them; the others may have run.
        """
        if not calls:
            return []
        try:
            async with asyncio.timeout(self._timeout_s), self._turns:
                answers = await self._send([call.command for call in calls])
                unknown = [at for at, answer in enumerate(answers) if isinstance(answer, self._no_script)]
                if unknown:
                    await self._load({calls[at].script for at in unknown})
                    again = await self._send([calls[at].command for at in unknown])
                    for at, answer in zip(unknown, again, strict=True):
                        answers[at] = answer
        except self._errors as exc:
            raise _unavailable(exc) from exc
        for answer in answers:
            if isinstance(answer, Exception):
                raise _unavailable(answer) from answer
        return answers

    async def aclose(self) -> None:
        """Close the client with its connections."""
        await self._client.aclose()

    async def _send(self, commands: Sequence[tuple[Value, ...]]) -> list[Answer]:
        pipeline: Pipeline = self._client.pipeline(transaction=False)
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)

    async def _load(self, scripts: Iterable[Script]) -> None:
        for script in scripts:
            await self._client.execute_command("SCRIPT LOAD", script.text)


def _unavailable(error: Exception) -> StoreUnavailable:
    return StoreUnavailable(f"Redis: {str(error) or type(error).__name__}")
