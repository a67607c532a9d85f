"""Sentences for a chat or a pager."""

import json
import urllib.request


def post(address: str, text: str) -> None:
    """Post a sentence to a webhook, in the form that Slack and its like take.

    Raises:
        OSError: it does not answer, or does not take it. ValueError: no address of the web.
    """
    if not address.startswith(("http://", "https://")):
        raise ValueError("a webhook is an address that begins with http:// or https://")
    body = json.dumps({"text": text}).encode()
    request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=10):
        pass
