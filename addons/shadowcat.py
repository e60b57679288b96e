"""Make mitmproxy understand MCP.

Run as:  mitmdump -s addons/shadowcat.py
"""

import sys
from pathlib import Path

# mitmproxy puts this folder on the path; the core lies beside it in a checkout and is installed otherwise.
sys.path.append(str(Path(__file__).resolve().parent.parent))

from shadowcat_addons.suite import Shadowcat

addons = [Shadowcat()]
