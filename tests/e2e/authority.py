"""A certificate authority for origins under test, made by the certificate store mitmproxy brings."""

import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from mitmproxy.certs import CertStore

KEY_BITS = 2048


@dataclass(frozen=True, slots=True)
class Authority:
    """The authority's certificate, and one it issued for 127.0.0.1 and localhost."""

    ca_file: Path
    certificate_file: Path
    key_file: Path

    @classmethod
    def make(cls, folder: Path) -> "Authority":
        folder.mkdir()
        store = CertStore.from_store(folder, "origin", KEY_BITS)
        names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
        leaf = store.get_cert("localhost", names)
        made = cls(folder / "origin-ca-cert.pem", folder / "leaf.pem", folder / "leaf-key.pem")
        made.certificate_file.write_bytes(leaf.cert.to_pem())
        made.key_file.write_bytes(
            leaf.privatekey.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption())
        )
        return made

    def server_context(self, *alpn: str) -> ssl.SSLContext:
        """A server's TLS settings, offering the protocols of `alpn` in this order."""
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self.certificate_file, self.key_file)
        context.set_alpn_protocols(list(alpn))
        return context
