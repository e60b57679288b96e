"""Write a note of your own under the descriptions of some tools, for the model to read.

Run as:  mitmdump -s addons/shadowcat.py -s examples/interceptors/08_note_on_tools.py -m reverse:http://127.0.0.1:3001
"""

from shadowcat_core.interceptors import Continue, Modify, Verdict
from shadowcat_core.jsonrpc import Json, Kind
from shadowcat_core.messages import Message

NOTES = {"deploy": "Ask the user before you call this: it changes production."}


class NoteOnTools:
    kinds = frozenset({Kind.RESPONSE})

    def intercept(self, message: Message) -> Verdict:
        asked, payload = message.request, message.payload
        if asked is None or asked.method != "tools/list" or not isinstance(payload, dict):
            return Continue()
        result = payload["result"]
        if not isinstance(result, dict) or not isinstance(tools := result.get("tools"), list):
            return Continue()
        noted: Json = [with_note(tool) for tool in tools]
        return Modify({**payload, "result": {**result, "tools": noted}}, "notes for the model")


def with_note(tool: Json) -> Json:
    if isinstance(tool, dict) and (note := NOTES.get(str(tool.get("name")))):
        return {**tool, "description": f"{tool.get('description', '')}\n\n{note}"}
    return tool


addons = [NoteOnTools()]
