"""TLS towards clients: a context from the files of a certificate and its key.

TLS 1.2 and later, HTTP/1.1 in ALPN. No session, cipher or client certificate settings: OpenSSL's own are good.
"""

import ssl

from ..errors import ConfigError


def server_context(cert: str, key: str) -> ssl.SSLContext:
    """The context for a certificate (with its chain) and its key, PEM files; without a key file it stands in the
    certificate's. Raises ConfigError that says what is wrong with which file."""
    for name, file in (("tls_cert", cert), ("tls_key", key)):
        if file:
            _check_readable(name, file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    named = key or cert
    try:
        context.load_cert_chain(cert, key or None, lambda: _refuse_password(named))
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"tls_key: {named} is not the key of the certificate in {cert}") from None
        words = (error.reason or "no PEM in it").replace("_", " ").lower()
        files = f"{cert} and {key}" if key else f"{cert}, which without tls_key must hold the key too,"
        raise ConfigError(f"tls_cert: {files} cannot be used: {words}") from None
    except OSError as error:
        raise ConfigError(f"tls_cert: {cert} cannot be read: {error.strerror}") from None
    return context


def _check_readable(name: str, file: str) -> None:
    """OpenSSL does not say which of two files it means."""
    try:
        with open(file, "rb"):
            pass
    except OSError as error:
        raise ConfigError(f"{name}: {file} cannot be read: {error.strerror}") from None


def _refuse_password(file: str) -> str:
    """OpenSSL would ask on the terminal."""
    raise ConfigError(f"tls_key: {file} is encrypted; a key without a password is needed")
