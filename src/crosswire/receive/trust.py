"""Whom TLS trusts: contexts that verify, and refusals by name.

Rules:
1. Off loopback a context verifies the certificate and its host name; no other is taken, and there
   is no switch to do without.
2. What OpenSSL and the loops raise is named here, and nowhere else: by the verification's code for
   a certificate, by OpenSSL's reason for the rest. The text says what to do.
"""

from __future__ import annotations

import ssl

from ..errors import TlsError, UsageError
from ..handshake import text_shown
from ..seam import is_loopback

__all__ = ["broken", "check_context", "late", "refusal"]

_CERTIFICATES = (
    # X509_V_ERR_* of OpenSSL's x509_vfy.h
    (
        {9, 10},
        "tls-expired",
        "look at this machine's clock; if that is right, the venue must renew it",
    ),
    ({62, 64}, "tls-host", "look at the host in url; whoever answers there is somebody else"),
    (
        {2, 18, 19, 20, 21},
        "tls-authority",
        "name the authority's PEM file (ca_file of a configuration, cafile= of a context) if it is "
        "a private one; else somebody may stand between, or this machine has no authorities "
        "(Debian: ca-certificates)",
    ),
)
_REASONS = (
    (
        {
            "TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "WRONG_SSL_VERSION",
            "NO_PROTOCOLS_AVAILABLE", "VERSION_TOO_LOW",
        },
        "tls-version",
        "the peer speaks no TLS 1.2 or later, and older ones are not safe: look at host and port, "
        "or at what stands between",
    ),
    (
        {
            "WRONG_VERSION_NUMBER", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG", "UNKNOWN_PROTOCOL",
            "RECORD_LAYER_FAILURE",
        },
        "tls-plain",
        "the answer is no TLS: look at the port; plain text (ws://, http://) is for loopback",
    ),
)  # fmt: skip


def check_context(context: ssl.SSLContext, host: str) -> None:
    """Hold a context to what it verifies.

    Raises:
        UsageError: ``host`` is off loopback, and the context takes any certificate or any name.
    """
    if is_loopback(host) or (context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname):
        return
    raise UsageError(
        f"the TLS context for {host} does not verify certificate and host name; use "
        "ssl.create_default_context(), and its cafile for a private authority"
    )


def refusal(error: OSError, host: str) -> TlsError | None:
    """Name why a TLS handshake failed; ``None``: that had another cause.

    Args:
        error: out of the handshake.
        host: whom the certificate was to be for.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        words = f"the certificate for {host}: {_shown(error.verify_message)}"
        for codes, name, advice in _CERTIFICATES:
            if error.verify_code in codes:
                return TlsError(name, f"{words}; {advice}")
        return TlsError("tls-certificate", f"{words}; the venue must put that right")
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        for reasons, name, advice in _REASONS:
            if _reason(error) in reasons:
                return TlsError(name, f"{_shown(error)}; {advice}")
        return broken(error)
    if isinstance(error, ConnectionAbortedError):  # of a loop's own limit
        return late(str(error))
    if isinstance(error, ConnectionResetError | BrokenPipeError | ssl.SSLEOFError):
        return TlsError(
            "tls-cut",
            "the peer ended the connection inside the TLS handshake; look at the port, which may "
            "speak plain text or no TLS 1.2, or whether it takes connections from this address",
        )
    return None


def late(words: str) -> TlsError:
    """Name a handshake that took too long."""
    return TlsError("tls-late", f"{words}; the port may speak no TLS, or the way is cut")


def broken(error: ssl.SSLError) -> TlsError:
    """Name what ended a connection behind its handshake, or in no way that is known."""
    if "ALERT" in _reason(error):
        return TlsError("tls-refused", f"the peer said no: {_shown(error)}")
    return TlsError("tls-broken", f"what came cannot be TLS of this connection: {_shown(error)}")


def _reason(error: ssl.SSLError) -> str:
    return getattr(error, "reason", None) or ""  # those that Python code makes have none


def _shown(what: object) -> str:
    text = what.strerror or str(what) if isinstance(what, OSError) else str(what)
    return text_shown(text)
