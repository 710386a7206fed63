"""Keys and tokens in text that is shown, by what they look like. Those of an account are known: `account.hide`."""

import re

# Keys and tokens of Google's, by their beginnings.
KEYS = r"(?<!\w)(?:AIza|AQ\.|ya29\.|GOCSPX-|1//)[\w.\-/]{8,}"
_SECRET = re.compile(
    KEYS + r"|(?<!\w)(?:sk|agp)-[\w.\-/]{8,}"
    # Whatever else it is: a long word of small and capital letters and digits.
    r"|(?<!\w)(?=\w*[a-z])(?=\w*[A-Z])(?=\w*\d)\w{24,}(?!\w)"
)


def mask(key: str) -> str:
    """A key as it may be shown: eight characters of a long one, none of a short one."""
    return f"{key[:4]}...{key[-4:]}" if len(key) >= 24 else "..."


def hide_secrets(text: str) -> str:
    """The text with what looks like a key or token masked: for quoting what a user typed."""
    return _SECRET.sub(lambda match: mask(match[0]), text)
