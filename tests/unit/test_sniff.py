"""What a file is, by its first bytes."""

import struct

import pytest

from agproxy.io.sniff import media_type, text_type


def ftyp(*brands):
    """The first box of an ISO media file: its major brand, a version, those it is compatible with."""
    body = brands[0] + b"\0\0\0\0" + b"".join(brands[1:])
    return struct.pack(">I", len(body) + 8) + b"ftyp" + body + b"\0\0\0\x08free"


KNOWN = {
    "image/png": [b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"],
    "image/jpeg": [b"\xff\xd8\xff\xe0\0\x10JFIF", b"\xff\xd8\xff\xdb"],
    "image/gif": [b"GIF87a", b"GIF89a..."],
    "image/webp": [b"RIFF\x10\0\0\0WEBPVP8 "],
    "image/bmp": [b"BM" + bytes(12) + struct.pack("<I", 40)],
    "image/heic": [ftyp(b"heic", b"mif1"), ftyp(b"mif1", b"miaf", b"heic")],
    "image/heif": [ftyp(b"mif1", b"miaf"), ftyp(b"msf1")],
    "image/avif": [ftyp(b"avif"), ftyp(b"mif1", b"avif", b"miaf")],
    "application/pdf": [b"%PDF-1.7\n"],
    "audio/mpeg": [b"ID3\x04\0\0", b"\xff\xfb\x90\x64", b"\xff\xf3\x40\xc0", b"\xff\xe3\x40\xc0"],
    "audio/aac": [b"\xff\xf1\x50\x80", b"\xff\xf9\x4c\x80"],
    "audio/wav": [b"RIFF\x24\0\0\0WAVEfmt "],
    "audio/flac": [b"fLaC\0\0\0\x22"],
    "audio/ogg": [b"OggS\0\x02" + bytes(20) + b"\x01\x13OpusHead"],
    "audio/aiff": [b"FORM\0\0\0\x10AIFFCOMM", b"FORM\0\0\0\x10AIFC"],
    "audio/mp4": [ftyp(b"M4A ", b"isom")],
    "video/mp4": [ftyp(b"isom", b"iso2"), ftyp(b"mp42"), ftyp(b"XXXX", b"mp41"), ftyp(b"M4V ")],
    "video/quicktime": [ftyp(b"qt  ")],
    "video/3gpp": [ftyp(b"3gp5")],
    "video/webm": [b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm"],
    "video/ogg": [b"OggS\0\x02" + bytes(20) + b"\x01\x2a\x80theora"],
    "video/avi": [b"RIFF\x10\0\0\0AVI LIST"],
    "video/mpeg": [b"\x00\x00\x01\xba\x44", b"\x00\x00\x01\xb3"],
    "video/x-flv": [b"FLV\x01\x05"],
    "video/wmv": [bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")],
}


@pytest.mark.parametrize(("name", "head"), [(name, head) for name, heads in KNOWN.items() for head in heads])
def test_media_are_known_by_their_first_bytes(name, head):
    assert media_type(head) == name


@pytest.mark.parametrize(("name", "head"), [(name, head) for name, heads in KNOWN.items() for head in heads])
def test_a_beginning_that_is_cut_short_is_another_known_type_at_most(name, head):
    for end in range(len(head)):
        assert media_type(head[:end]) in (None, *KNOWN)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<!DOCTYPE html><html>",
        b"<svg xmlns='http://www.w3.org/2000/svg'>",
        b'{"AccessKeyId": "x"}',
        b"PK\x03\x04",
        b"\x7fELF",
        b"MZ\x90\0",
        b"#!/bin/sh",
        b"BM is no picture, it says, and goes on",
        b"RIFF\x10\0\0\0CDXA",
        b"\x1aE\xdf\xa3\x9fB\x86\x81\x01B\x82\x88matroska",
        b"\xff\xff\xff\xff",
        b"\xff\xfe\x00\x00",
        b"\xff\xeb\x90\x64",  # a version that MPEG does not have
        b"\xff\xfb\xf0\x64",  # a bit rate that MPEG does not have
        ftyp(b"crx "),
        b"\0\0\0\x00ftyp",
        b"root:x:0:0:root:/root:/bin/bash\n",
    ],
)
def test_all_else_is_no_media(body):
    assert media_type(body) is None


def test_text_is_taken_where_the_server_calls_it_so_and_it_is():
    assert text_type(b"Hello\tworld\r\n", "text/plain; charset=utf-8") == "text/plain"
    assert text_type("a,ü\n".encode(), "TEXT/CSV") == "text/csv"
    assert text_type(b"# T\n<b>x</b>", "text/markdown") == "text/markdown"


@pytest.mark.parametrize(
    ("body", "declared"),
    [
        (b"Hello", None),
        (b"Hello", "text/html"),
        (b"Hello", "application/octet-stream"),
        (b"Hello", "application/json"),
        (b"\n <!doctype html><p>", "text/plain"),
        (b"\xef\xbb\xbf<HTML>", "text/plain"),
        (b"<svg>", "text/plain"),
        (b"<?xml version='1.0'?>", "text/plain"),
        (b"caf\xe9", "text/plain"),
        (b"a\0b", "text/plain"),
        (b"\x7fELF", "text/plain"),
    ],
)
def test_text_that_is_not_called_so_or_is_none_is_not_taken(body, declared):
    assert text_type(body, declared) is None
