#!/usr/bin/env python3
"""Client of a gate over WebSocket (RFC 6455), with the standard library alone.

    websocket.py HOST PORT [--ca FILE] [ORIGIN]

With authorities it speaks TLS, and verifies the host. A line `send ID HEX` on stdin sends a frame as a binary message, `fragments SIZE ID HEX` the same in fragments of that size, `text WORD` a
text message, `raw HEX` a binary message of any bytes. Each frame that arrives is printed as `frame ID HEX`, a refused handshake as
`refused STATUS`, the end of the connection as `closed CODE`.
"""

import base64
import hashlib
import os
import select
import socket
import ssl
import struct
import sys

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
FIN, MASKED = 0x80, 0x80
CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def exactly(stream, length):
    data = b""
    while len(data) < length:
        piece = stream.recv(length - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def handshake(stream, host, origin):
    key = base64.b64encode(os.urandom(16))
    lines = [b"GET / HTTP/1.1", b"Host: " + host.encode(), b"Upgrade: websocket", b"Connection: Upgrade",
             b"Sec-WebSocket-Version: 13", b"Sec-WebSocket-Key: " + key]
    if origin:
        lines.append(b"Origin: " + origin.encode())
    stream.sendall(b"\r\n".join(lines) + b"\r\n\r\n")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        head += exactly(stream, 1)
    status = head.split(b" ")[1].decode()
    if status != "101":
        print("refused", status, flush=True)
        sys.exit()
    expected = base64.b64encode(hashlib.sha1(key + GUID).digest())
    assert b"sec-websocket-accept: " + expected.lower() in head.lower(), head


def send(stream, opcode, data, fin=FIN):
    mask = os.urandom(4)
    length = len(data)
    if length < 126:
        head = struct.pack(">BB", fin | opcode, MASKED | length)
    elif length < 1 << 16:
        head = struct.pack(">BBH", fin | opcode, MASKED | 126, length)
    else:
        head = struct.pack(">BBQ", fin | opcode, MASKED | 127, length)
    stream.sendall(head + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(data)))


def receive(stream):
    """Prints one message; returns true at the end of the connection."""
    try:
        first, length = exactly(stream, 2)
        if length == 126:
            (length,) = struct.unpack(">H", exactly(stream, 2))
        elif length == 127:
            (length,) = struct.unpack(">Q", exactly(stream, 8))
        data = exactly(stream, length)
    except (EOFError, OSError):
        print("closed 1006", flush=True)
        return True
    if first & 15 == BINARY:
        msg_id, size = struct.unpack(">II", data[:8])
        assert size == len(data) - 8, "one frame a message"
        print("frame", msg_id, data[8:].hex() or "-", flush=True)
    elif first & 15 == PING:
        send(stream, PONG, data)
    elif first & 15 == CLOSE:
        print("closed", struct.unpack(">H", data[:2])[0] if data else 1005, flush=True)
        return True
    return False


def perform(stream, line):
    words = line.split()
    if words[0] == "text":
        return send(stream, TEXT, words[1].encode())
    if words[0] == "raw":
        return send(stream, BINARY, bytes.fromhex(words[1]))
    size = int(words.pop(1)) if words[0] == "fragments" else 1 << 30
    data = bytes.fromhex("" if words[2] == "-" else words[2])
    data = struct.pack(">II", int(words[1]), len(data)) + data
    pieces = [data[i:i + size] for i in range(0, len(data), size)]
    for i, piece in enumerate(pieces):
        send(stream, BINARY if i == 0 else CONTINUATION, piece, FIN if i == len(pieces) - 1 else 0)


def connect(host, port, authorities):
    stream = socket.create_connection((host, port))
    if authorities:
        stream = ssl.create_default_context(cafile=authorities).wrap_socket(stream, server_hostname=host)
    return stream


host, port, *rest = sys.argv[1:]
authorities = None
if rest[:1] == ["--ca"]:
    authorities, rest = rest[1], rest[2:]
stream = connect(host, int(port), authorities)
handshake(stream, f"{host}:{port}", rest[0] if rest else None)
said = b""
while True:
    # Bytes that are decrypted already make no socket readable.
    is_decrypted = authorities and stream.pending()
    readable = [stream] if is_decrypted else select.select([stream, sys.stdin], [], [])[0]
    if stream in readable and receive(stream):
        break
    if sys.stdin in readable:
        read = os.read(sys.stdin.fileno(), 1 << 16)
        if not read:
            break
        *lines, said = (said + read).split(b"\n")
        try:
            for line in lines:
                perform(stream, line.decode())
        except OSError:
            # The gate has closed the connection: what it said before is read next.
            pass
