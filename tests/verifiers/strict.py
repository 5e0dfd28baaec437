"""Connects as Python 3.13 does by default, and says whether the server is believed: strict.py PORT TRUSTED"""

import socket
import ssl
import sys

port, trusted = sys.argv[1:]
context = ssl.create_default_context(cafile=trusted)
PARTIAL_CHAIN = 0x80000  # a name of its own since 3.10
context.verify_flags |= ssl.VERIFY_X509_STRICT | PARTIAL_CHAIN
try:
    with socket.create_connection(("127.0.0.1", int(port)), timeout=20) as plain:
        with context.wrap_socket(plain, server_hostname="localhost"):
            print("believed")
except ssl.SSLCertVerificationError as error:
    print(f"refused: {error.verify_message}")
