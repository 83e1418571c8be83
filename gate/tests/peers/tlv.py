#!/usr/bin/env python3
"""Client of a gate over TCP, with the standard library alone.

    tlv.py HOST PORT

A line `send ID HEX` on stdin sends a frame, `raw HEX` any bytes. Each frame that arrives is printed as `frame ID HEX`, the end of the
connection as `closed`.
"""

import socket
import struct
import sys
import threading


def exactly(stream, length):
    data = b""
    while len(data) < length:
        piece = stream.recv(length - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def receive(stream):
    try:
        while True:
            msg_id, length = struct.unpack(">II", exactly(stream, 8))
            print("frame", msg_id, exactly(stream, length).hex() or "-", flush=True)
    except (EOFError, OSError):
        print("closed", flush=True)


stream = socket.create_connection((sys.argv[1], int(sys.argv[2])))
threading.Thread(target=receive, args=(stream,), daemon=True).start()
for line in sys.stdin:
    words = line.split()
    if words[0] == "send":
        data = bytes.fromhex("" if words[2] == "-" else words[2])
        stream.sendall(struct.pack(">II", int(words[1]), len(data)) + data)
    elif words[0] == "raw":
        stream.sendall(bytes.fromhex(words[1]))
