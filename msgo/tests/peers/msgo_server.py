"""Answers as servers of msgo do: one request a connection, and no id in errors. Says its port; ends with its stdin."""

import gzip
import socket
import sys
import threading

from msgo_frames import PROTOBUF, RESPONSE, frame, messages, read


def respond(request):
    response = messages.Response(requestId=request.requestId & 0xFFFFFFFF, code=200, serializeType=PROTOBUF)
    args = [arg.number_value for arg in request.args]
    if request.serviceName != "goods":
        return messages.Response(code=500, msg="no service found")
    match request.methodName:
        case "Find" if args[0] < 0:
            return messages.Response(code=500, msg=f"no item {args[0]:.0f}")
        case "Find":
            response.data.struct_value.update({"id": args[0], "name": f"item {args[0]:.0f}"})
        case "FindAll":
            items = response.data.list_value
            for number in range(int(args[0])):
                items.add_struct().update({"id": number, "name": f"item {number}"})
        case "Limited":
            return messages.Response(code=700, msg="too many requests")
        case "Stall":
            return None
        case _:
            return messages.Response(code=500, msg="no service method found")
    return response


def serve(stream):
    with stream:
        _, _, request_id, body = read(stream)
        response = respond(messages.Request.FromString(body))
        if response is not None:
            stream.sendall(frame(RESPONSE, response.requestId, gzip.compress(response.SerializeToString())))


def accept(listener):
    while True:
        stream, _ = listener.accept()
        threading.Thread(target=serve, args=(stream,), daemon=True).start()


listener = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=accept, args=(listener,), daemon=True).start()
print(listener.getsockname()[1], flush=True)
sys.stdin.read()
