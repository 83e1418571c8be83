"""msgo's version-1 frames with the distribution's protobuf."""

import gzip
import importlib
import os
import struct
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
REQUEST, RESPONSE, PING, PONG = range(4)
GOB, PROTOBUF = range(2)

with tempfile.TemporaryDirectory() as generated:
    subprocess.run(["protoc", f"--proto_path={HERE}", f"--python_out={generated}", "msgo.proto"], check=True)
    sys.path.insert(0, generated)
    messages = importlib.import_module("msgo_pb2")
    sys.path.pop(0)


def frame(kind, request_id, body, serializer=PROTOBUF, compression=0):
    return struct.pack(">BBIBBBQ", 0x1D, 1, 17 + len(body), kind, compression, serializer, request_id) + body


def exactly(stream, count):
    data = b""
    while len(data) < count:
        piece = stream.recv(count - len(data))
        if not piece:
            raise EOFError(f"the connection ended after {len(data)} of {count} bytes")
        data += piece
    return data


def read(stream):
    """Kind, serializer, id and expanded body of the next frame."""
    magic, version, length, kind, compression, serializer, request_id = struct.unpack(">BBIBBBQ", exactly(stream, 17))
    assert (magic, version, compression) == (0x1D, 1, 0), (magic, version, compression)
    body = exactly(stream, length - 17)
    return kind, serializer, request_id, gzip.decompress(body) if body else b""
