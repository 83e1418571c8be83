"""The binary protocol of gmq's first nodes: python3 v111.py HOST:PORT"""
import json, socket, struct, sys, time

host, port = sys.argv[1].split(":")
JOB, ERROR, MESSAGE = range(3)


class Client:
    def __init__(self):
        self.socket = socket.create_connection((host, int(port)), timeout=30)

    def send(self, command, data=b""):
        self.socket.sendall(b"v111" + struct.pack(">HH", len(command), len(data)) + command + data)

    def exact(self, count):
        data = b""
        while len(data) < count:
            piece = self.socket.recv(count - len(data))
            assert piece, "closed in an answer"
            data += piece
        return data

    def answer(self):
        kind, length = struct.unpack(">hh", self.exact(4))
        return kind, self.exact(length).decode()

    def ask(self, command, data=b""):
        self.send(command, data)
        return self.answer()

    def push(self, topic, body, ttr=30, delay=0, id=1):
        job = {"Id": id, "Topic": topic, "Delay": delay, "TTR": ttr, "Body": body, "Status": 0, "ConsumeNum": 0}
        kind, id = self.ask(b"push", json.dumps(job).encode())
        assert kind == MESSAGE and id.isdigit(), (kind, id)
        return int(id)


def expect(got, wanted):
    assert got == wanted, f"{got} instead of {wanted}"


def job(id, topic, body, ttr=30, consumed=0):
    return {"Id": id, "Topic": topic, "Delay": 0, "TTR": ttr, "Body": body, "Status": 3, "ConsumeNum": consumed}


def main():
    c = Client()
    c.send(b"ping")
    begin = time.monotonic()
    expect(c.ask(b"pop", b"va,vb"), (MESSAGE, "nothing"))
    assert 2.5 < time.monotonic() - begin < 20, "a pop without jobs waits for 3 s"
    second, first = c.push("vb", "second"), c.push("va", "first", id="a text")
    for id, topic, body in ((first, "va", "first"), (second, "vb", "second")):
        kind, found = c.ask(b"pop", b"va,vb")
        expect((kind, json.loads(found)), (JOB, job(id, topic, body)))
    expect(c.ask(b"ack", json.dumps({"JobId": first}).encode()), (MESSAGE, "success"))
    # From another connection, which has popped nothing.
    expect(Client().ask(b"ack", json.dumps({"JobId": second}).encode()), (MESSAGE, "success"))
    expect(c.ask(b"ack", json.dumps({"JobId": second}).encode())[0], ERROR)
    # A TTR of 0: gone at the pop. A TTR of 1: there again.
    gone = c.push("va", "gone", ttr=0)
    kind, found = c.ask(b"pop", b"va")
    expect((kind, json.loads(found)), (JOB, job(gone, "va", "gone", ttr=0)))
    expect(c.ask(b"ack", json.dumps({"JobId": gone}).encode())[0], ERROR)
    again = c.push("va", "again", ttr=1)
    for consumed in range(2):
        kind, found = c.ask(b"pop", b"va")
        expect((kind, json.loads(found)), (JOB, job(again, "va", "again", ttr=1, consumed=consumed)))
    expect(c.ask(b"ack", json.dumps({"JobId": again}).encode()), (MESSAGE, "success"))
    # What waits is woken by a push of another one.
    c.send(b"pop", b"nowhere,va")
    late = Client().push("va", "late")
    kind, found = c.answer()
    expect((kind, json.loads(found)["Id"]), (JOB, late))
    # 40,000 bytes do not fit into an i16: said, and the connection lives.
    kind, text = c.ask(b"push", b"x" * 40000)
    assert kind == ERROR and "40000 bytes" in text and "32767" in text, text
    expect(c.ask(b"pull"), (ERROR, "unkown cmd"))
    expect(c.ask(b"push", b"{}")[0], ERROR)
    expect(c.ask(b"pop", b""), (ERROR, "topic is empty"))
    expect(c.ask(b"ack", json.dumps({"JobId": late}).encode()), (MESSAGE, "success"))


if __name__ == "__main__":
    main()
    print("done")
