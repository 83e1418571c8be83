"""What a gmq node must survive: python3 abuse.py HOST:PORT HTTP_HOST:PORT"""
import os, random, socket, struct, sys, urllib.request

from text import Client, expect


def alive(what):
    with urllib.request.urlopen(f"http://{sys.argv[2]}/ping", timeout=30) as answer:
        assert answer.read() == b"OK", what


def raw(data):
    c = Client()
    try:
        c.socket.sendall(data)
        c.socket.shutdown(socket.SHUT_WR)
        while c.socket.recv(65536):
            pass
    except OSError:
        pass
    c.socket.close()


def main():
    c = Client()
    expect(c.ask("set t 1"), (103, "ok"))
    alive("`set` with one value")
    expect(c.ask("queue t k"), (103, "ok"))
    kind, text = c.ask("pub t k 0", b"x" * (12 << 20))
    assert kind == 102 and "12582912 bytes" in text, text
    alive("a body of 12 MiB")
    expect(c.ask("pub t x 0", b"pop t nothing\nqueue t made\n")[0], 102)
    expect(c.ask("pub t k 999999", b"pop t nothing\nqueue t made\n")[0], 102)
    expect(c.ask("queue t made"), (103, "ok"))
    alive("bodies that look like commands")
    raw(b"pub t k 0\n" + struct.pack(">I", 0xFFFFFFFF) + b"x" * 1000)
    raw(b"mpub t 1000\n" + struct.pack(">I", 0xFFFFFFFF) * 1000)
    alive("lengths of 4 GiB")
    raw(b"x" * (1 << 20))
    raw(b"pop " + b"a " * 100000 + b"\n")
    alive("lines and parameters without end")
    raw(b"v111" + b"\xff" * 1000)
    raw(b"v111" + struct.pack(">hh", -1, -1))
    raw(b"v1")
    raw(b"\n\n\r\n \n")
    raw(b"\0" * 100000)
    alive("frames that are none")
    half = [Client() for _ in range(20)]
    for other in half:
        other.socket.sendall(b"pub t k 0\n" + struct.pack(">I", 1000) + b"half")
    alive("half a command and silence")
    for byte in b"pub t k 0\n" + struct.pack(">I", 3) + b"abc":
        c.socket.sendall(bytes([byte]))
    expect(c.answer()[0], 103)
    alive("a command byte by byte")
    seed = int(os.environ.get("SEED", random.randrange(1 << 32)))
    print("seed", seed)
    dice = random.Random(seed)
    words = [b"pub ", b"mpub ", b"pop ", b"ack ", b"set ", b"dead ", b"queue ", b"t ", b"k ", b"0", b"1", b" ", b"\n", b"v111"]
    for _ in range(100):
        raw(b"".join(dice.choice(words) if dice.random() < 0.7 else dice.randbytes(dice.randrange(9)) for _ in range(200)))
    alive("random words")
    good = Client()
    expect(good.ask("queue good k"), (103, "ok"))
    expect(good.ask("pub good k 0", b"m")[0], 103)
    expect(good.ask("pop good k")[0], 101)


if __name__ == "__main__":
    main()
    print("done")
