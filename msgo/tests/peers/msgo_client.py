"""Calls a server as clients of msgo do: `msgo_client.py HOST PORT`. Says the name of each step that went as it should."""

import gzip
import socket
import struct
import sys
import time

from msgo_frames import GOB, PING, PONG, REQUEST, RESPONSE, exactly, frame, messages, read

ADDRESS = (sys.argv[1], int(sys.argv[2]))


def connect():
    stream = socket.create_connection(ADDRESS)
    stream.settimeout(20)
    return stream


def request(request_id, service, method, *args):
    message = messages.Request(requestId=request_id, serviceName=service, methodName=method)
    for arg in args:
        value = message.args.add()
        if arg is None:
            value.null_value = 0
        elif isinstance(arg, bool):
            value.bool_value = arg
        elif isinstance(arg, (int, float)):
            value.number_value = arg
        elif isinstance(arg, str):
            value.string_value = arg
        else:
            value.struct_value.update(arg)
    return gzip.compress(message.SerializeToString())


def answer(stream):
    kind, serializer, request_id, body = read(stream)
    assert (kind, serializer) == (RESPONSE, 1), (kind, serializer)
    response = messages.Response.FromString(body)
    assert response.requestId == request_id, (response.requestId, request_id)
    return response


def call(stream, request_id, service, method, *args):
    stream.sendall(frame(REQUEST, request_id, request(request_id, service, method, *args)))
    return answer(stream)


def expect(response, code, request_id, text=""):
    assert (response.code, response.requestId) == (code, request_id), response
    assert text in response.msg, response
    if code != 200:
        # msgo's client takes the data for the response.
        data = response.data.struct_value
        assert (data["Code"], data["Msg"]) == (code, response.msg), response


def said(name):
    print(name, flush=True)


stream = connect()
BIG = (1 << 62) + 3
found = call(stream, BIG, "goods", "Find", 5)
expect(found, 200, BIG)
assert found.data.struct_value["id"] == 5 and found.data.struct_value["name"] == "item 5", found
said("find")

expect(call(stream, 2, "goods", "Lose", 5), 500, 2, "no service method found")
expect(call(stream, 3, "bads", "Find", 5), 500, 3, "no service found")
expect(call(stream, 4, "goods", "Find"), 500, 4)
expect(call(stream, 5, "goods", "Find", "five"), 500, 5)
expect(call(stream, 6, "goods", "Find", -1), 500, 6, "no item -1")
expect(call(stream, 7, "goods", "FindAll", 2), 200, 7)
said("errors")

expect(call(stream, 8, "goods", "Find", (1 << 53) + 1), 500, 8, "2^53")
expect(call(stream, 9, "goods", "Largest"), 500, 9, "9007199254740993 is beyond 2^53")
said("numbers")

stream.sendall(frame(REQUEST, 10, b"no gzip"))
expect(answer(stream), 500, 10, "not gzip")
stream.sendall(frame(REQUEST, 11, gzip.compress(b"\xff\xff\xff")))
expect(answer(stream), 500, 11, "does not parse")
stream.sendall(frame(REQUEST, 12, b"", compression=7))
expect(answer(stream), 500, 12, "compression 7")
stream.sendall(frame(REQUEST, 13, b"", serializer=9))
expect(answer(stream), 500, 13, "serializer 9")
said("bodies")

bomb = gzip.compress(bytes(1 << 20)) * 1024
stream.sendall(frame(REQUEST, 14, bomb))
expect(answer(stream), 500, 14, "more than")
said("bomb")

stream.sendall(frame(REQUEST, 15, gzip.compress(b"whatever gob is"), serializer=GOB))
kind, serializer, request_id, body = read(stream)
assert (kind, serializer, request_id) == (RESPONSE, GOB, 15), (kind, serializer, request_id)
assert b"gob is not supported: use protobuf" in body, body
said("gob")

stream.sendall(frame(PING, 16, b""))
kind, _, request_id, body = read(stream)
assert (kind, request_id, body) == (PONG, 16, b""), (kind, request_id, body)
said("ping")

together = b"".join(frame(REQUEST, 100 + n, request(100 + n, "goods", "Find", n)) for n in range(300))
stream.sendall(together)
answers = [answer(stream) for _ in range(300)]
assert sorted(one.requestId for one in answers) == list(range(100, 400))
assert all(one.data.struct_value["id"] == one.requestId - 100 for one in answers)
said("together")

for byte in frame(REQUEST, 17, request(17, "goods", "Find", 7)):
    stream.sendall(bytes([byte]))
expect(answer(stream), 200, 17)
expect(call(stream, 18, "goods", "Block", 3), 200, 18)
said("pieces")

expect(call(stream, 19, "goods", "Limited"), 200, 19)
expect(call(stream, 20, "goods", "Limited"), 700, 20)
said("limit")

began = time.monotonic()
expect(call(stream, 21, "goods", "Stall"), 500, 21, "deadline")
assert 4.5 < time.monotonic() - began < 15, time.monotonic() - began
said("deadline")

for bad in [struct.pack(">BBI", 0x1D, 1, 0xFFFFFFFF), struct.pack(">BBI", 0x1D, 1, 3), frame(REQUEST, 1, b"x" * 9)[:20]]:
    other = connect()
    other.sendall(bad)
    assert other.recv(1) == b"", bad
said("no frames")

# A request that came before the end of the client's side is answered.
other = connect()
other.sendall(frame(REQUEST, 22, request(22, "goods", "Find", 8)))
other.shutdown(socket.SHUT_WR)
expect(answer(other), 200, 22)
assert other.recv(1) == b""
said("half closed")
