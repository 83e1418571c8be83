"""The text protocol of gmq, command by command: python3 text.py HOST:PORT"""
import json, socket, struct, sys

host, port = sys.argv[1].split(":")


class Client:
    def __init__(self):
        self.socket = socket.create_connection((host, int(port)), timeout=30)

    def send(self, line, body=None):
        data = line.encode() + b"\n"
        self.socket.sendall(data if body is None else data + struct.pack(">I", len(body)) + body)

    def exact(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            assert piece, "closed in an answer"
            data += piece
        return data

    def answer(self):
        kind, length = struct.unpack(">HI", self.exact(6))
        return kind, self.exact(length).decode()

    def ask(self, line, body=None):
        self.send(line, body)
        return self.answer()

    def is_closed(self):
        return self.socket.recv(1) == b""


def expect(got, wanted):
    assert got == wanted, f"{got} instead of {wanted}"


def main():
    c = Client()
    expect(c.ask("queue t k"), (103, "ok"))
    expect(c.ask("queue t k"), (102, "E_INVALID_DECLARE - bindKey k has exist."))
    kind, first = c.ask("pub t k 0", b'{"a": 1}')
    assert kind == 103 and first.isdigit(), (kind, first)
    expect(c.ask("pub t x 0", b"b"), (102, "E_INVALID_READ - routeKey:x is not match with queue, the mode is 2"))
    expect(c.ask("pub nowhere x 0", b"b"), (102, "E_INVALID_READ - routeKey:x is not match with queue, the mode is 2"))
    kind, text = c.ask("pub t k 259201", b"pop t k\n")
    assert kind == 102 and text.startswith("E_INVALID_DELAY - "), text
    # Two spaces: no route key, and so the queue `default`.
    kind, default = c.ask("pub t  0", b"to default")
    assert kind == 103 and default.isdigit(), default
    items = [json.dumps({"delay": 0, "body": f"m{n}", "topic": "t", "route_key": "k"}).encode() for n in range(3)]
    c.send("mpub t 3")
    for item in items:
        c.socket.sendall(struct.pack(">I", len(item)) + item)
    kind, ids = c.answer()
    ids = json.loads(ids)
    assert kind == 103 and len(ids) == 3 and all(isinstance(id, int) for id in ids), ids
    for n in (0, 1001, "many"):
        other = Client()
        text = "E_INVALID_PUSHNUM - number of push must be between 1 and 1000"
        expect(other.ask(f"mpub t {n}"), (102, text))
    for wanted, body in [(first, '{"a": 1}')] + [(str(id), f"m{n}") for n, id in enumerate(ids)]:
        kind, message = c.ask("pop t k")
        expect((kind, json.loads(message)), (101, {"id": wanted, "body": body, "retry_count": 0}))
        assert list(json.loads(message)) == ["id", "body", "retry_count"], message
        expect(c.ask(f"ack {wanted} t k"), (103, "ok"))
    expect(c.ask(f"ack {first} t k"), (102, f"E_INVALID_ACK - msgId:{first} is not exist."))
    expect(c.ask("ack 123 t k"), (102, "E_INVALID_ACK - msgId:123 is not exist."))
    expect(c.ask("pop t x"), (102, "E_INVALID_POP - bindKey:x can't match queue"))
    expect(c.ask("dead t k"), (102, "E_INVALID_DEAD - bindkey:k is not associated with queue"))
    # A heartbeat while a pop waits, and then the message.
    c.send("pop t k")
    expect(c.answer(), (105, "ping"))
    other = Client()
    other.ask("pub t k 0", b"late")
    kind, message = c.answer()
    assert kind == 101 and json.loads(message)["body"] == "late", message
    expect(c.ask("ack {} t k".format(json.loads(message)["id"])), (103, "ok"))
    # Dead letters: a lease of 1 s that is not acked, and no retries.
    expect(c.ask("set d 0 1 1 1"), (103, "ok"))
    expect(c.ask("queue d k"), (103, "ok"))
    kind, dead = c.ask("pub d k 0", b"poison")
    for retry in range(2):
        kind, message = c.ask("pop d k")
        expect((kind, json.loads(message)), (101, {"id": dead, "body": "poison", "retry_count": retry}))
    c.send("pop d k")
    expect(c.answer(), (105, "ping"))
    kind, message = other.ask("dead d k")
    assert kind == 101 and json.loads(message)["id"] == dead, message
    expect(other.ask(f"ack {dead} d k"), (103, "ok"))
    expect(other.ask("dead d k"), (102, "E_INVALID_DEAD - bindkey:k is not associated with queue"))
    c = Client()
    expect(c.ask("set auto 1"), (103, "ok"))
    c.ask("queue auto k")
    kind, id = c.ask("pub auto k 0", b"once")
    expect(c.ask("pop auto k")[0], 101)
    expect(c.ask(f"ack {id} auto k"), (102, f"E_INVALID_ACK - msgId:{id} is not exist."))
    # Channels.
    publisher = Client()
    expect(publisher.ask("publish c", b"nobody"), (102, "E_INVALID_PUBLISH - no subscribers"))
    expect(c.ask("subscribe c"), (103, "ok"))
    expect(publisher.ask("publish c", b"news"), (103, "ok"))
    expect(c.answer(), (104, "news"))
    expect(publisher.ask("publish c more news"), (103, "ok"))
    expect(c.answer(), (104, "more news"))
    # What is unknown, and what is wrong.
    publisher.send("ping x")
    expect(publisher.ask("foo x"), (102, "E_INVALID_CMD - unkown cmd: foo"))
    expect(publisher.ask("queue t other"), (103, "ok"))
    expect(publisher.ask("pop a b c"), (102, "E_INVALID_PARAMS - 2 parameters required"))
    assert publisher.is_closed()
    wrong = Client()
    expect(wrong.ask("pub t"), (102, "E_INVALID_PARAMS - 3 parameters required"))
    assert wrong.is_closed()


if __name__ == "__main__":
    main()
    print("done")
