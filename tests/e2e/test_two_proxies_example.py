"""The example of two proxies does what its manual says, with ports of its own."""

import asyncio
import os
import re
import shutil
from pathlib import Path

from tests.e2e.processes import environment, free_port
from tests.e2e.proxies import PROGRAMS, ROOT
from tests.e2e.sdk import output_of
from tests.store_contract.redis_server import require_redis

PORTS = ("6390", "3091", "3092", "8091", "8092")


def copied(folder: Path) -> Path:
    """The example where a project is, all its ports free ones."""
    shutil.copytree(ROOT / "examples" / "two_proxies", folder / "examples" / "two_proxies")
    (folder / "addons").symlink_to(ROOT / "addons")
    ours = {port: str(free_port()) for port in PORTS}
    for path in (folder / "examples" / "two_proxies").iterdir():
        if path.is_file():
            path.write_text(re.sub("|".join(PORTS), lambda found: ours[found[0]], path.read_text()))
    return folder / "examples" / "two_proxies" / "run"


async def test_the_example_hears_every_step_once_though_its_proxy_is_killed(tmp_path: Path):
    require_redis()
    run = await asyncio.to_thread(copied, tmp_path)
    path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
    output = await output_of(run, env=environment(PATH=path, HOME=str(tmp_path)), succeeds=True)
    steps = [int(step) for step in re.findall(r" (\d+)/60", output)]
    assert steps == list(range(60)), output
    assert "--- kill -9" in output.partition(" 59/60")[0]
    assert "--- on through" in output.partition(" 59/60")[0]
    assert output.endswith("lift-off\nthe same session\n")
