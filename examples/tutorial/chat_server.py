#!/usr/bin/env python3
"""A chat server as a tutorial teaches it: something for `stillhere storm` to break.

    python3 chat_server.py [--port PORT] [--no-reaper]

A thread for each connection, a backlog of ten, users in a dictionary. It prints "listening PORT" when it listens
(--port 0 takes a free one). A frame is a length of four bytes, the high one first, and so many bytes of JSON:

    register  user, password    a new account           -> {"type": "register", "ok": true}
    login     user, password    who one is from now on  -> {"type": "login", "ok": true}
    beat                        "still here"            -> {"type": "beat"}
    say       text              to everybody, oneself too -> {"type": "say", "user": ..., "text": ...}

The server asks too: a {"type": "ping"} every second, which needs no answer. What it does wrong, on purpose:

- What can't be read ends the connection's thread with an exception, and nothing closes the socket. Only the reaper
  does, when nothing was heard for ten seconds; with --no-reaper such sockets stay until the process ends.
- It writes to its clients one after the other, and waits for each: one that doesn't read keeps all others waiting.
- Ten connections wait to be accepted, no more. On Linux the next are left to try again a second later, so a thread of
  an attacker makes one try a second, and its count of threads says little about what the server stands.
- Nothing bounds the threads, the accounts or what a client says a second.
"""

import argparse
import hashlib
import json
import socket
import struct
import threading
import time

BACKLOG = 10
PING_EVERY = 1.0
SILENT_MAX = 10.0
# Random bytes as a length are gigabytes, mostly. Without this they would fill this machine's memory, not just end a
# thread.
FRAME_MAX = 1 << 20

LOCK = threading.Lock()
USERS = {}  # name -> hash of the password
CLIENTS = {}  # socket -> [when it was last heard, the lock for writing to it]


def hashed(password):
    """MD5, as the tutorial has it. Don't: it is guessed a billion times a second. stillhere takes Argon2id."""
    return hashlib.md5(password.encode()).hexdigest()


def read_exactly(connection, count):
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def receive(connection):
    (length,) = struct.unpack("!I", read_exactly(connection, 4))
    if length > FRAME_MAX:
        raise ValueError("a frame of %d bytes" % length)
    return json.loads(read_exactly(connection, length))


def send(connection, writing, message):
    body = json.dumps(message).encode()
    with writing:
        connection.sendall(struct.pack("!I", len(body)) + body)


def send_to_all(message):
    with LOCK:
        clients = list(CLIENTS.items())
    for connection, (_, writing) in clients:
        try:
            send(connection, writing, message)
        except OSError:
            pass  # Its own thread will notice, or the reaper.


def account(message):
    """Makes an account, or looks whether it is whose it says it is."""
    user, word = message["user"], hashed(message["password"])
    with LOCK:
        if message["type"] == "register":
            return USERS.setdefault(user, word) == word
        return USERS.get(user) == word


def serve(connection):
    client = CLIENTS[connection]
    user = None
    try:
        while True:
            message = receive(connection)
            client[0] = time.monotonic()
            kind = message["type"]
            if kind in ("register", "login"):
                ok = account(message)
                user = message["user"] if ok else user
                send(connection, client[1], {"type": kind, "ok": ok})
            elif kind == "beat":
                send(connection, client[1], {"type": "beat"})
            elif kind == "say" and user is not None:
                send_to_all({"type": "say", "user": user, "text": message["text"]})
    except (EOFError, ConnectionError):
        # An end that was expected is the only one after which the socket is closed.
        close(connection)


def close(connection):
    with LOCK:
        CLIENTS.pop(connection, None)
    try:
        # A thread may still wait for it.
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass
    connection.close()


def reap():
    """Closes who has been silent for too long."""
    while True:
        time.sleep(1)
        now = time.monotonic()
        with LOCK:
            silent = [connection for connection, (heard, _) in CLIENTS.items() if now - heard > SILENT_MAX]
        for connection in silent:
            close(connection)


def ping():
    while True:
        time.sleep(PING_EVERY)
        send_to_all({"type": "ping"})


def main():
    options = argparse.ArgumentParser(description="A chat server as a tutorial teaches it.")
    options.add_argument("--port", type=int, default=14100, help="where to listen on 127.0.0.1; 0 for a free port")
    options.add_argument("--no-reaper", action="store_true", help="leave dead sockets open")
    options = options.parse_args()

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", options.port))
    listener.listen(BACKLOG)
    print("listening", listener.getsockname()[1], flush=True)

    threading.Thread(target=ping, daemon=True).start()
    if not options.no_reaper:
        threading.Thread(target=reap, daemon=True).start()
    while True:
        connection, _ = listener.accept()
        with LOCK:
            CLIENTS[connection] = [time.monotonic(), threading.Lock()]
        threading.Thread(target=serve, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
