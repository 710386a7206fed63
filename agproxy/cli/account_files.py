"""`agproxy accounts import` and `export`: whole accounts as JSON, or keys one a line.

What is exported holds every secret, so it never goes to a terminal.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any

from .. import accounts, credentials, jsontext, traits
from ..account import key_id
from ..accounts import Document, Record
from ..documents import BadDocument, NewerDocument
from ..errors import ConfigError

MOST_BYTES = 4 << 20


def read_input(file: str | None) -> bytes:
    """The bytes of a file, or of standard input. Raises ConfigError."""
    try:
        if file is None or file == "-":
            data = sys.stdin.buffer.read(MOST_BYTES + 1) if sys.stdin is not None else b""
        else:
            with Path(file).expanduser().open("rb") as stream:
                data = stream.read(MOST_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror or error}") from None
    if len(data) > MOST_BYTES:
        raise ConfigError(f"{file or 'standard input'}: over {MOST_BYTES} bytes, which is no file of accounts")
    return data


def parse(data: bytes, place: str) -> tuple[Record, ...]:
    """The accounts in an export, in a credentials file of Google's tools, or in a list of keys. Raises ConfigError."""
    text = data.decode("utf-8-sig", errors="replace")
    if not text.lstrip().startswith(("{", "[")):
        return _parse_keys(text, place)
    try:
        value = jsontext.loads(text)
    except ValueError as error:
        raise ConfigError(f"{place}: not JSON: {error}") from None
    if isinstance(value, dict) and value.get("type") in tuple(credentials.FILE_TYPES):
        return (from_google(value, place),)
    if isinstance(value, list):
        value = {"version": accounts.VERSION, "accounts": value}
    try:
        return accounts.decode(jsontext.dumps(value)).accounts
    except (BadDocument, NewerDocument) as error:
        raise ConfigError(f"{place}: {error}") from None


def from_google(value: dict[str, Any], place: str) -> Record:
    """The account of a credentials file. Raises ConfigError."""
    try:
        kind, secret = credentials.read_file(value)
        credential = credentials.read(kind, secret)
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None
    assert credential is not None
    more: dict[str, Any] = {}
    quota_project = value.get("quota_project_id")
    if isinstance(quota_project, str) and quota_project:
        try:
            more["upstream"] = {"quota_project": traits.check_place(quota_project)}
        except ValueError as error:
            raise ConfigError(f"{place}: quota_project_id: {error}") from None
    email = value.get("client_email")
    return Record(
        id=credentials.id_of(credential),
        kind=kind,
        secret=secret,
        email=email if isinstance(email, str) else None,
        more=more,
    )


def _parse_keys(text: str, place: str) -> tuple[Record, ...]:
    records: dict[str, Record] = {}
    for number, line in enumerate(text.splitlines(), 1):
        word = line.strip()
        if not word or word.startswith("#"):
            continue
        try:
            key = accounts.check_key(word)
        except ValueError as error:
            raise ConfigError(f"{place}, line {number}: {error}. Nothing was imported") from None
        records[key_id(key)] = Record(id=key_id(key), secret={"api_key": key})
    return tuple(records.values())


def join(document: Document, records: tuple[Record, ...]) -> Document:
    """The document with these accounts. One that is there already is replaced where it stands, but for a bare key,
    which says nothing new."""
    for record in records:
        old = document.find(record.id)
        if old is not None and record == Record(id=record.id, kind=record.kind, secret=record.secret):
            continue
        document = accounts.add_record(document, record)
    return document


def export(options: argparse.Namespace, document: Document) -> int:
    """Write accounts with their secrets to a file of their own, or to what standard output leads to."""
    if options.keys:
        data = "".join(f"{record.key}\n" for record in document.accounts if record.key is not None).encode()
    else:
        data = accounts.encode(document)
    if options.output:
        try:
            descriptor = os.open(options.output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise ConfigError(f"{options.output}: {error.strerror or error}") from None
        with open(descriptor, "wb") as stream:
            stream.write(data)
        return 0
    if sys.stdout.isatty():
        raise ConfigError(
            "this would show every key: use --output FILE, or redirect it (agproxy accounts export > FILE)"
        )
    sys.stdout.buffer.write(data)
    return 0
