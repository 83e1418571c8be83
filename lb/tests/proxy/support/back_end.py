"""HTTP back end for tests, with the standard library alone: echoes requests, and misbehaves under some paths.

Prints its port when it listens. The first argument is its name."""

import json
import socket
import sys
import threading
import time

NAME = sys.argv[1]
BROKEN = []


def read_head(stream):
    line = stream.readline()
    if not line:
        return None
    headers = []
    while (header := stream.readline().rstrip(b"\r\n")):
        key, value = header.decode("latin-1").split(":", 1)
        headers.append([key.lower(), value.strip()])
    return line.decode("latin-1").rstrip("\r\n"), headers


def body_parts(stream, headers):
    known = dict(headers)
    if "chunked" in known.get("transfer-encoding", ""):
        while (size := int(stream.readline().split(b";")[0], 16)):
            part = stream.read(size)
            stream.readline()
            yield part
        while stream.readline().strip():
            pass
    elif int(known.get("content-length", 0)):
        yield stream.read(int(known["content-length"]))


def answer(connection, body, status="200 OK", headers=()):
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", f"X-Name: {NAME}", *headers, "", ""]
    # In one call: a back end that is killed sends an answer or none.
    connection.sendall("\r\n".join(lines).encode() + body)


def echo_parts(connection, stream, headers):
    """Sends each part back as soon as it is there."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    for part in body_parts(stream, headers):
        connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
    connection.sendall(b"0\r\n\r\n")


def tunnel(connection, stream):
    connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Accept: yes\r\n\r\n")
    while (part := stream.read1(65536)):
        connection.sendall(part.upper())


def serve(connection):
    with connection, connection.makefile("rb") as stream:
        while (head := read_head(stream)):
            line, headers = head
            path = line.split(" ")[1].split("?")[0]
            if path == "/parts":
                echo_parts(connection, stream, headers)
                continue
            if path == "/tunnel":
                return tunnel(connection, stream)
            body = b"".join(body_parts(stream, headers))
            if path == "/head":
                connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            elif path == "/length":
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
            elif path == "/nothing":
                connection.sendall(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")
            elif path == "/unchanged":
                connection.sendall(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n")
            elif path == "/silent":
                time.sleep(600)
            elif path == "/broken":
                return BROKEN.append(line)
            elif path == "/count":
                answer(connection, str(len(BROKEN)).encode())
            elif path == "/half":
                return connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
            elif path == "/pause":
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
                time.sleep(600)
            elif path == "/hop":
                hop = ["Connection: x-mine, keep-alive", "X-Mine: 1", "Keep-Alive: timeout=5", "X-Kept: 1"]
                answer(connection, b"", headers=hop)
            elif path == "/busy":
                answer(connection, b"busy", "503 Service Unavailable")
            else:
                echo = {"name": NAME, "line": line, "headers": headers, "body": body.decode("latin-1")}
                answer(connection, json.dumps(echo).encode())


def main():
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=guarded, args=(connection,), daemon=True).start()


def guarded(connection):
    try:
        serve(connection)
    except OSError:
        pass


main()
