"""Takes credentials out of what a server or a library says."""

import re
from collections.abc import Iterable
from urllib.parse import quote

# Servers quote what a request had: its URL and its Authorization header. The credentials in use are
# known by their values; these forms also find those that were renewed meanwhile.
_FORMS = (
    # X-Amz-Signature=..., Credential=..., X-Amz-Security-Token=..., AWSAccessKeyId=...
    (
        r"(?i)((?:signature|credential|token|secret|password|accesskeyid)[\w-]{0,20}(?:=|%3D))"
        r"[^\s&,;\"'<>]+",
        r"\1***",
    ),
    (r"\b(?:AKIA|ASIA|ABIA|ACCA)[A-Z0-9]{12,}\b", "***"),  # AWS's access key ids
    # Base64 as long as a secret key or a session token. Few paths are so long without . _ and -.
    (
        r"(?<![\w/+=.:-])(?=\S*[a-z])(?=\S*[A-Z])(?=\S*\d)"
        r"[A-Za-z0-9+](?:[A-Za-z0-9+/]{39}|[A-Za-z0-9+/]{99,}={0,2})(?![\w/+=-]|[.:]\w)",
        "***",
    ),
    # User and password before a host. A password may have a slash, a port has none after it.
    (r"//(?:[^\s/]*|[^\s/:]*:(?!\d+/)\S*)@", "//"),
)
_LOOKED_AT = 10_000  # characters; the time of the forms grows with the square
_SHORT = 8  # characters; a word may contain so short a credential


def redacted(text: str, secrets: Iterable[str]) -> str:
    """One line of at most 300 characters without credentials.

    Args:
        text: What was said.
        secrets: The credentials in use.
    """
    values = {form for secret in secrets if secret for form in (secret, quote(secret, safe=""))}
    for value in sorted(values, key=len, reverse=True):
        edges = (r"(?<!\w)", r"(?!\w)") if len(value) < _SHORT else ("", "")
        text = re.sub(re.escape(value).join(edges), "***", text)
    text = " ".join(text.split())[:_LOOKED_AT]
    for form, replacement in _FORMS:
        text = re.sub(form, replacement, text)
    return text[:300]
