"""A Python peer in ZooKeeper, over kazoo, in the form of Curator's service discovery.

kazoo_peer.py write HOSTS BASE SERVICE ID ADDRESS PORT    lists an instance until stdin ends
kazoo_peer.py read HOSTS BASE SERVICE                     prints each instance as a line of JSON
"""

import json
import sys
import time

from kazoo.client import KazooClient


def write(client, base, service, name, address, port):
    instance = {
        "name": service,
        "id": name,
        "address": address,
        "port": int(port),
        "sslPort": None,
        "payload": {"metadata": {"weight": "2", "zone": "python"}},
        "registrationTimeUTC": int(time.time() * 1000),
        "serviceType": "DYNAMIC",
        "uriSpec": None,
    }
    path = f"{base}/{service}/{name}"
    client.create(path, json.dumps(instance).encode(), ephemeral=True, makepath=True)
    print("written", flush=True)
    sys.stdin.read()


def read(client, base, service):
    for name in sorted(client.get_children(f"{base}/{service}")):
        data, stat = client.get(f"{base}/{service}/{name}")
        found = json.loads(data)
        metadata = found["payload"]["metadata"]
        line = {"id": found["id"], "address": found["address"], "port": found["port"], "metadata": metadata}
        print(json.dumps({**line, "ephemeral": stat.ephemeralOwner != 0}), flush=True)


action, hosts, *arguments = sys.argv[1:]
client = KazooClient(hosts=hosts)
client.start(timeout=10)
{"write": write, "read": read}[action](client, *arguments)
client.stop()
