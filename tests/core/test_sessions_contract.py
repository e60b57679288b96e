"""Every store keeps the contract, sentence by sentence; and a store that does not is found out."""

import pytest

from shadowcat_core.sessions import MemoryStore
from shadowcat_core.sessions.contract import CONTRACT, ContractBroken, check_name, check_store, run_check
from tests.store_contract import stores
from tests.store_contract.fixtures import make_store, redis_cluster, redis_server  # noqa: F401 -- fixtures


@pytest.mark.parametrize("check", CONTRACT, ids=check_name)
async def test_the_contract_holds(check, make_store):  # noqa: F811 -- a fixture
    await run_check(check, make_store)
