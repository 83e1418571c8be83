"""Answers as servers of msgo do: one request a connection, all data in an object, and no answer where they panic. Errors that are none
of a method have no id, and are in gob. Says its port; ends with its stdin."""

import gzip
import socket
import struct
import sys
import threading

from msgo_frames import GOB, PROTOBUF, RESPONSE, frame, messages, read

# What Go's encoder writes before the first response: the definition of its type.
DEFINITION = bytes.fromhex(
    "66ff810301010d4d73527063526573706f6e736501ff8200010601095265717565737449640104000104436f646501040001"
    "034d7367010c00010c436f6d707265737354797065010600010d53657269616c697a65547970650106000104446174610110000000"
)


def gob(code, text):
    """A response whose code and text alone are not zero."""
    value = b"\xff\x82\x02" + b"\xfe" + struct.pack(">H", code << 1) + b"\x01" + bytes([len(text)]) + text.encode() + b"\x00"
    return frame(RESPONSE, 0, gzip.compress(DEFINITION + bytes([len(value)]) + value), GOB)


def respond(request):
    response = messages.Response(requestId=request.requestId & 0xFFFFFFFF, code=200, serializeType=PROTOBUF)
    response.data.struct_value.update({})
    args = [arg.number_value for arg in request.args]
    if request.serviceName != "goods":
        return gob(500, "no service found")
    match request.methodName:
        case "Find" if args[0] < 0:
            response.code, response.msg = 500, f"no item {args[0]:.0f}"
        case "Find":
            response.data.struct_value.update({"id": args[0], "name": f"item {args[0]:.0f}"})
        case "FindAll":
            pass
        case "Limited":
            return gob(700, "rate: Wait(n=1) would exceed context deadline")
        case _:
            return b""
    return frame(RESPONSE, response.requestId, gzip.compress(response.SerializeToString()))


def serve(stream):
    with stream:
        *_, body = read(stream)
        stream.sendall(respond(messages.Request.FromString(body)))


def accept(listener):
    while True:
        stream, _ = listener.accept()
        threading.Thread(target=serve, args=(stream,), daemon=True).start()


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=accept, args=(listener,), daemon=True).start()
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
