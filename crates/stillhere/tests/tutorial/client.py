"""A heartbeat client as the tutorial teaches it: it encodes twice, and it never reads.

usage: client.py HOST PORT INTERVAL COUNT    (COUNT beats, INTERVAL seconds apart; COUNT 0 goes on for ever)
"""

import json
import os
import socket
import struct
import sys
import time


def main():
    host, port, interval, count = sys.argv[1], int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
    link = socket.create_connection((host, port))
    sent = 0
    while True:
        beat = {"ip": link.getsockname()[0], "status": "alive", "pid": os.getpid()}
        body = json.dumps(json.dumps(beat)).encode()
        link.sendall(struct.pack("!i", len(body)) + body)
        sent += 1
        if sent == count:
            break
        time.sleep(interval)
    link.close()


if __name__ == "__main__":
    main()
