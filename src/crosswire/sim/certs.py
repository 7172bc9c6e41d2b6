"""Throw-away certificates for the simulated venues: made at start, gone at exit."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

import trustme

__all__ = ["Certificates"]

HOST = "127.0.0.1"


class Certificates:
    """A private authority and one server certificate for the loopback address.

    Attributes:
        ca_path: the authority's certificate in PEM, for clients to trust; it lies in a directory
            that only this user can read and that :meth:`close` removes.
    """

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="crosswire-sim-")
        authority = trustme.CA()
        self._certificate = authority.issue_cert(HOST, "localhost")
        self.ca_path = Path(self._directory.name) / "ca.pem"
        authority.cert_pem.write_to_path(self.ca_path)

    def server_context(self) -> ssl.SSLContext:
        """Return a TLS context for a server."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._certificate.configure_cert(context)
        return context

    def close(self) -> None:
        """Remove the directory; closing twice is allowed."""
        self._directory.cleanup()
