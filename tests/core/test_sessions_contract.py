"""Every store keeps the contract, sentence by sentence; and a store that does not is found out."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from shadowcat_core.sessions import MemoryStore, ResilientStore
from shadowcat_core.sessions.contract import CONTRACT, ContractBroken, check_name, check_store, run_check
from tests.store_contract import stores

pytest_plugins = ["tests.store_contract.fixtures"]


@pytest.mark.parametrize("check", CONTRACT, ids=check_name)
async def test_the_contract_holds(check, make_store):
    await run_check(check, make_store)


@pytest.mark.parametrize("kind", ["memory", "sqlite"])
async def test_the_contract_holds_behind_a_store_that_would_carry_on(kind, tmp_path):
    make = stores.memory() if kind == "memory" else stores.sqlite(tmp_path)

    @asynccontextmanager
    async def make_resilient(settings):
        async with make(settings) as primary:
            local = MemoryStore(**stores.options(settings))
            store = ResilientStore(primary, local=local, clock_ms=settings.clock_ms, on_report=pytest.fail)
            yield store
            await store.aclose()

    await check_store(make_resilient)


class Forgetful(MemoryStore):
    """Says that it subscribes, and does not."""

    async def add_subscription(self, session_id, uri):
        return await self.get(session_id) is not None


class Racing(MemoryStore):
    """Reads, waits, and writes what it read: the classical lost update."""

    async def rebind(self, session_id, expected_epoch, upstream):
        record = await self.get(session_id)
        await asyncio.sleep(0)
        if record is None or record.mapping.epoch != expected_epoch:
            return record and record.mapping
        self._move(self._sessions[session_id], upstream, expected_epoch + 1)
        return await self.touch(session_id)


class Leaking(MemoryStore):
    """Lets everybody read everybody's events."""

    async def after(self, session_id, last_event_id, limit=100):
        for each in self._sessions:
            if (missed := await super().after(each, last_event_id, limit)) is not None:
                return missed
        return None


@pytest.mark.parametrize("store", [Forgetful, Racing, Leaking])
async def test_a_store_that_breaks_the_contract_is_found_out(store):
    @asynccontextmanager
    async def make(settings):
        yield store(**stores.options(settings))

    broken = []
    for check in CONTRACT:
        try:
            await run_check(check, make)
        except ContractBroken as exc:
            broken.append(str(exc))
    assert broken
    with pytest.raises(ContractBroken):
        await check_store(make)
