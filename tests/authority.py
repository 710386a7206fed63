"""A throw-away certificate authority for tests over TLS."""

import shutil
import subprocess
from pathlib import Path

import pytest


def make_certificates(folder: Path, *names: str) -> Path:
    """ca.pem, and server.pem with server.key for these names, in the folder. Skips where there is no openssl."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command here to make certificates with")
    alternatives = ",".join(f"DNS:{name}" for name in names)
    # Python 3.13 wants what RFC 5280 demands: a certificate names its issuer's key, an authority may sign.
    (folder / "names").write_text(f"subjectAltName={alternatives}\nauthorityKeyIdentifier=keyid\n")
    usage = ("-addext", "keyUsage=critical,keyCertSign")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    signing = ("-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial")
    for words in (
        ("req", "-x509", *key, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test", "-days", "2", *usage),
        ("req", *key, "-keyout", "server.key", "-out", "server.csr", "-subj", f"/CN={names[0]}"),
        ("x509", *signing, "-out", "server.pem", "-days", "2", "-extfile", "names"),
    ):
        subprocess.run([openssl, *words], cwd=folder, check=True, capture_output=True)
    return folder
