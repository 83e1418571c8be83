"""The older variant of gmq's text protocol, without queues and route keys: python3 older.py HOST:PORT"""
import json, struct

from text import Client, expect


def main():
    c = Client()
    kind, first = c.ask("pub old 0", b"one")
    assert kind == 103 and first.isdigit(), (kind, first)
    kind, text = c.ask("pub old 259201", b"pop old\n")
    assert kind == 102 and text.startswith("E_INVALID_DELAY - "), text
    c.send("mpub old 2")
    for delay, body in ((0, b"two"), (1, b"later")):
        c.socket.sendall(struct.pack(">II", delay, len(body)) + body)
    kind, ids = c.answer()
    ids = json.loads(ids)
    assert kind == 103 and len(ids) == 2, (kind, ids)
    for wanted, body in ((first, "one"), (ids[0], "two"), (ids[1], "later")):
        kind, message = c.ask("pop old")
        expect((kind, json.loads(message)), (101, {"id": str(wanted), "body": body, "retry_count": 0}))
        expect(c.ask(f"ack {wanted} old"), (103, "ok"))
    expect(c.ask("ack 123 old"), (102, "E_INVALID_ACK - msgId:123 is not exist."))
    expect(c.ask("dead old 10"), (102, "E_INVALID_DEAD - no message"))
    expect(c.ask("pop nowhere"), (102, "E_INVALID_POP - bindKey:default can't match queue"))
    # Two dead letters, as a list.
    expect(c.ask("set old 0 1 1 1"), (103, "ok"))
    letters = {c.ask("pub old 0", body)[1] for body in (b"a", b"b")}
    for _ in range(4):
        expect(c.ask("pop old")[0], 101)
    c.send("pop old")
    expect(c.answer(), (105, "ping"))
    kind, found = Client().ask("dead old 10")
    assert kind == 101 and {letter["id"] for letter in json.loads(found)} == letters, found
    c = Client()
    expect(c.ask("set old 1"), (103, "ok"))
    kind, id = c.ask("pub old 0", b"once")
    expect(c.ask("pop old")[0], 101)
    expect(c.ask(f"ack {id} old"), (102, f"E_INVALID_ACK - msgId:{id} is not exist."))


if __name__ == "__main__":
    main()
    print("done")
