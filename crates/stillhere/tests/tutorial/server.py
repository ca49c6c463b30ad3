"""A heartbeat server as the tutorial teaches it: one thread a client, and never a reply.

usage: server.py [PORT]    (0, the default, takes a free one)

It prints "listening PORT", then one line for each beat, `beat IP:PORT {…}`, and one when a client is gone,
`gone IP:PORT BEATS`. What it can't read ends the client's thread with a line `error IP:PORT …`.
"""

import json
import socket
import struct
import sys
import threading


SAYING = threading.Lock()


def say(*words):
    """One whole line at a time, whichever thread speaks."""
    with SAYING:
        print(*words, flush=True)


def read_exactly(connection, count):
    """The next `count` bytes, or None at the end of the stream."""
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            return None
        data += piece
    return data


def serve(connection, peer):
    beats = 0
    try:
        while True:
            header = read_exactly(connection, 4)
            if header is None:
                break
            (length,) = struct.unpack("!i", header)
            body = read_exactly(connection, length)
            if body is None:
                break
            beat = json.loads(json.loads(body))
            beats += 1
            say("beat", peer, json.dumps({key: beat[key] for key in ("ip", "status", "pid")}))
    except (OSError, ValueError, TypeError, KeyError) as error:
        say("error", peer, repr(error))
    finally:
        connection.close()
        say("gone", peer, beats)


def main():
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    say("listening", listener.getsockname()[1])
    while True:
        connection, address = listener.accept()
        peer = "%s:%d" % address
        threading.Thread(target=serve, args=(connection, peer), daemon=True).start()


if __name__ == "__main__":
    main()
