"""A server in go-micro-service's form, over kazoo: it contends for the node `master`, and else is a `normal`.

micro_service.py http HOSTS BASE SERVICE CODE WEIGHT     serves HTTP, whose answers name it and show the request line
micro_service.py find HOSTS BASE SERVICE                 prints the nodes, as its clients read them: {"master":..,"normals":[..]}
micro_service.py mqtt HOSTS BASE SERVICE CODE BROKER_PORT    registers the address of a broker

A server prints its role and its port."""

import http.server
import json
import socketserver
import sys
import threading

from kazoo.client import KazooClient
from kazoo.exceptions import NodeExistsError


class Server:
    def __init__(self, client, base, service, code, port, weight=1):
        self.client, self.folder, self.port, self.normal = client, f"{base}/{service}", port, None
        node = {"serverip": "127.0.0.1", "serverport": port, "username": "", "userpwd": "", "serveruniquecode": code}
        self.data = json.dumps({**node, "weight": weight}).encode()
        client.ensure_path(self.folder)
        self.contend()

    def contend(self, _event=None):
        try:
            self.client.create(f"{self.folder}/master", self.data, ephemeral=True)
            if self.normal:
                self.client.delete(self.normal)
            print("master", self.port, flush=True)
        except NodeExistsError:
            if not self.normal:
                self.normal = self.client.create(f"{self.folder}/normal", self.data, ephemeral=True, sequence=True)
                print("normal", self.port, flush=True)
            # From the callback's thread no answer can be awaited.
            later = lambda event: threading.Thread(target=self.contend, daemon=True).start()
            if not self.client.exists(f"{self.folder}/master", watch=later):
                self.contend()


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def do_GET(self):
        body = json.dumps({"code": self.server.code, "line": self.requestline}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Name", self.server.code)
        self.end_headers()
        self.wfile.write(body)
        self.wfile.flush()

    def log_message(self, *_):
        pass


class Threads(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True


def find(client, base, service):
    read = lambda name: json.loads(client.get(f"{base}/{service}/{name}")[0])
    names = sorted(client.get_children(f"{base}/{service}"))
    master = read("master") if "master" in names else None
    print(json.dumps({"master": master, "normals": [read(name) for name in names if name.startswith("normal")]}), flush=True)


def main(kind, hosts, base, service, *rest):
    client = KazooClient(hosts=hosts, timeout=4)
    client.start(timeout=20)
    if kind == "http":
        server = Threads(("127.0.0.1", 0), Handler)
        server.code = rest[0]
        Server(client, base, service, rest[0], server.server_address[1], int(rest[1]))
        server.serve_forever()
    elif kind == "mqtt":
        Server(client, base, service, rest[0], int(rest[1]))
        sys.stdin.read()
    else:
        find(client, base, service)
    client.stop()


main(*sys.argv[1:])
