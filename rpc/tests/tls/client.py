"""One call of `shop.caller` over mutual TLS, with the standard library alone.

Usage: client.py HOST PORT CA CERTIFICATE KEY"""

import json
import socket
import ssl
import struct
import sys

HEADER = struct.Struct(">BBIBBBQ")
REQUEST, RESPONSE, HELLO = 0, 1, 9
JSON, NO_VALUE = 1, 255


def frame(kind, codec, number, body):
    return HEADER.pack(0x1D, 2, HEADER.size + len(body), kind, 0, codec, number) + body


def read(stream):
    """The kind and the body of the next frame."""
    magic, version, length, kind, compression, _, _ = HEADER.unpack(exactly(stream, HEADER.size))
    assert (magic, version, compression) == (0x1D, 2, 0)
    return kind, exactly(stream, length - HEADER.size)


def exactly(stream, count):
    data = b""
    while len(data) < count:
        more = stream.recv(count - len(data))
        if not more:
            raise EOFError("the server closed the connection")
        data += more
    return data


def text(value):
    return bytes([len(value)]) + value.encode()


host, port, ca, certificate, key = sys.argv[1:]
context = ssl.create_default_context(cafile=ca)
context.minimum_version = ssl.TLSVersion.TLSv1_3
context.load_cert_chain(certificate, key)
context.set_alpn_protocols(["ms-rpc/2"])
# The identity is the service's and not the host's: it is compared below.
context.check_hostname = False
with socket.create_connection((host, int(port)), 10) as tcp, context.wrap_socket(tcp) as stream:
    names = [value for kind, value in stream.getpeercert()["subjectAltName"] if kind == "URI"]
    assert names == ["spiffe://test/shop"] and stream.selected_alpn_protocol() == "ms-rpc/2", names
    stream.sendall(frame(HELLO, NO_VALUE, 0, struct.pack(">BH", 16, 6) + b"python"))
    assert read(stream)[0] == HELLO
    # Flags, timeout, names, no arguments, no metadata; then an empty list.
    head = struct.pack(">BI", 0, 5000) + text("shop") + text("caller") + bytes([0, 0])
    stream.sendall(frame(REQUEST, JSON, 1 << 20, struct.pack(">H", len(head)) + head + b"[]"))
    kind, body = read(stream)
    assert kind == RESPONSE, kind
    (length,) = struct.unpack_from(">H", body)
    code = body[2]
    assert code == 0, body
    print(json.loads(body[2 + length :]))
