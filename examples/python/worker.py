"""A worker of dutch-master on Python's own http.server, with the standard library alone (3.9 or newer). Started by hand, it serves on port 8000.

The same with asyncio stands in section 0 of protocol/SPEC.md.
"""

import io, os, random, select, socket, struct, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

IDLE_GRACE = 5  # seconds that an idle connection stays open after the order to go


# MessagePack, as much of it as the protocol has: it is strict where the protocol is.
def pack(v):
    if isinstance(v, int): return struct.pack(">Bq", 0xD3, v)
    if isinstance(v, str): return struct.pack(">BI", 0xDB, len(v.encode())) + v.encode()
    if isinstance(v, list): return struct.pack(">BI", 0xDD, len(v)) + b"".join(pack(x) for x in v)
    return struct.pack(">BI", 0xDF, len(v)) + b"".join(pack(k) + pack(x) for k, x in v.items())


def unpack(f, depth=16):
    def take(n):
        if len(data := f.read(n)) < n: raise ValueError("a value that is cut off")
        return data
    t = take(1)[0]
    if t < 0x80 or t >= 0xE0: return t if t < 0x80 else t - 256
    if t in (0xC0, 0xC2, 0xC3): return {0xC0: None, 0xC2: False, 0xC3: True}[t]
    if 0xCC <= t <= 0xD3:
        if abs(n := int.from_bytes(take(1 << (t & 3)), "big", signed=t >= 0xD0)) > 2**53: raise ValueError("an integer beyond 2^53")
        return n
    wide = {0xD9: 1, 0xDA: 2, 0xDB: 4, 0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}.get(t)
    if wide is None and not 0x80 <= t < 0xC0: raise ValueError("a type that is not allowed")
    n = int.from_bytes(take(wide), "big") if wide else t & (31 if t >= 0xA0 else 15)
    if 0xA0 <= t < 0xC0 or 0xD9 <= t <= 0xDB: return take(n).decode()
    if not depth: raise ValueError("values that are nested too deep")
    if 0x90 <= t < 0xA0 or 0xDC <= t <= 0xDD: return [unpack(f, depth - 1) for _ in range(n)]
    items = {unpack(f, depth - 1): unpack(f, depth - 1) for _ in range(n)}
    if len(items) < n or any(type(key) is not str for key in items): raise ValueError("a key that stands twice, or is no string")
    return items


# The messages for a worker: their keys, with a question mark those that may be missing. What is in neither of the two lists is an integer of 0 or more.
MESSAGES = {
    "welcome": "protocol worker generation slot size names? heartbeat_ms? max_requests? orphan_timeout_ms? features?",
    "listener": "seq key name? data? address? fds", "error": "seq? code message", "disconnect": "reason timeout_ms", "return-listener": "seq key",
}
TYPES = {"names": list, "features": list, "address": dict, **dict.fromkeys("event key name data code message reason".split(), str)}


def check(message):
    for key in ["event", *MESSAGES.get(message["event"], "").split()]:
        name, is_optional = key.rstrip("?"), key.endswith("?")
        value, wanted = message.get(name), TYPES.get(name, int)
        if value is None and is_optional: continue
        if type(value) is not wanted or wanted is int and value < 0: raise ValueError(f"a {message['event']} with a bad {name}")


class Master:
    """The connection to the master, or to the next one. It is read exactly, never beyond a frame: a descriptor may be behind it."""

    def __init__(self):
        self.path, self.token, *_ = [os.environ.pop("DUTCH_MASTER_" + name) for name in ("SOCKET", "TOKEN", "WORKER_ID", "SLOT")]
        self.welcome, self.state, self.held = None, "starting", {}  # the last: listeners by key
        self.lock = threading.Lock()  # nothing may come between a frame and its descriptor
        self.connect(5)

    def connect(self, patience):
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.connect(self.path)
        was = self.welcome
        resume = {"resume": {"generation": was["generation"], "state": self.state, "keys": list(self.held)}} if was else {}
        self.say("hello", protocol=1, token=self.token, sdk="python-example/1", pid=os.getpid(), features=["resume"], **resume)
        self.patience(min(5, patience))
        self.welcome = self.expect("welcome")[0]
        if was and was["worker"] != self.welcome["worker"]: raise EOFError("bad-token", "taken for another worker")
        self.patience(0)

    def patience(self, seconds):
        """How long a read may wait; 0: for ever."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", int(seconds), int(seconds % 1 * 1e6)))

    def comes_back(self, why):
        """Looks for the next master until one takes this worker back. False: none did in time, or it did not want to."""
        orphan, pause = self.welcome.get("orphan_timeout_ms"), 0.01
        ends = time.monotonic() + (2**31 if orphan is None else orphan / 1000)
        while True:
            self.socket.close()
            left = ends - time.monotonic()
            if left <= 0 or why.args[0] in ("resume-refused", "bad-token"): return False
            if why.args[0] == "superseded": return time.sleep(left)  # somebody else is this worker now
            time.sleep(min(left, pause * random.uniform(0.5, 1)))
            pause = min(2 * pause, 0.5)
            try: return self.connect(max(0.1, ends - time.monotonic())) or True
            except (EOFError, OSError) as error: why = error

    def say(self, event, descriptor=None, **keys):
        body = pack({"event": event, **keys})
        with self.lock:
            try:
                self.socket.sendall(struct.pack(">I", len(body)) + body)
                if descriptor is not None: socket.send_fds(self.socket, [b"\0"], [descriptor])
            except OSError: pass  # a master that is gone needs no words

    def close(self, key):
        """This worker's copy of a listener alone: never shutdown()."""
        with self.lock: self.held.pop(key).close()
        self.say("close", key=key)

    def give_back(self, seq, key):
        """A master that took over from a dead one asks for a listener."""
        try: copy = os.dup(self.held[key].fileno())
        except (KeyError, OSError): return self.say("error", seq=seq, code="EBADF", message="not held")
        try: self.say("listener", seq=seq, key=key, fds=1, descriptor=copy)
        finally: os.close(copy)

    def exactly(self, n):
        if len(data := self.socket.recv(n, socket.MSG_WAITALL)) < n: raise EOFError("the master is gone")
        return data

    def expect(self, *events):
        """The next message of these; every other one is ignored. What breaks the rules ends the connection."""
        try:
            while True:
                n = int.from_bytes(self.exactly(4), "big")
                if not 0 < n <= 65536: raise ValueError("no length of a frame")
                message = unpack(body := io.BytesIO(self.exactly(n)))
                check(message)
                if body.read(): raise ValueError("bytes behind the message")
                fds = self.descriptor(message) if message["event"] == "listener" else []
                if message.get("protocol", 1) != 1: raise ValueError("another version")
                if message["event"] == "error": raise EOFError(message["code"], message["message"])
                if message["event"] in events: return message, fds
                if message["event"] == "return-listener": self.give_back(message["seq"], message["key"])
                for fd in fds:  # not asked for
                    os.close(fd)
                    self.say("close", key=message["key"])
        except (ValueError, KeyError, TypeError) as error:
            self.say("error", code="malformed", message=str(error))
            self.socket.close()
            raise EOFError("the master breaks the rules") from error

    def descriptor(self, message):
        byte, fds, *_ = socket.recv_fds(self.socket, 1, 2)  # room for one too many
        if (byte, len(fds), message["fds"]) != (b"\0", 1, 1):
            for fd in fds: os.close(fd)
            raise ValueError("bad descriptors")
        os.set_inheritable(fds[0], False)
        return fds


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self): self.answer(b"hello from Python\n")

    def do_POST(self): self.answer(self.rfile.read(int(self.headers["Content-Length"] or 0)))

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        if self.server.order:  # the client is to use the connection no more
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def handle_one_request(self):
        if self.request_comes(): super().handle_one_request()
        else: self.close_connection = True

    def request_comes(self):
        """Waits for the first byte of a request; before the first request a connection counts as busy, later as idle."""
        is_new, self.is_used = not getattr(self, "is_used", False), True
        self.connection.settimeout(0)
        while not self.rfile.peek():
            if select.select([self.connection], [], [], 0.05)[0] and not self.rfile.peek(): return False  # the client has gone
            order = self.server.order
            if order and time.monotonic() > (order["ends"] if is_new else min(order["ends"], order["came"] + IDLE_GRACE)): return False
        self.connection.settimeout(60)
        return True

    def log_message(self, *_): pass


class Server(ThreadingHTTPServer):
    daemon_threads, order = True, None

    def __init__(self, listener):
        super().__init__(listener.getsockname(), Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener

    def server_bind(self): pass

    def shutdown_request(self, request):
        """Half-close, then read what is still on its way: closing at once could reset the connection."""
        try:
            request.shutdown(socket.SHUT_WR)
            request.settimeout(1)
            while request.recv(4096): pass
        except OSError: pass
        request.close()

    def accept_waiting(self):
        while select.select([self.socket], [], [], 0)[0]: self.handle_request()


def main():
    if "DUTCH_MASTER_SOCKET" not in os.environ:
        return Server(socket.create_server(("127.0.0.1", 8000))).serve_forever()
    master = Master()
    master.say("listen", seq=1, name=master.welcome["names"][0])
    answer, fds = master.expect("listener", "disconnect")
    if not fds: return master.say("disconnect")
    server = Server(socket.socket(fileno=fds[0]))
    master.held[answer["key"]] = server.socket
    before = threading.active_count()
    accepting = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    accepting.start()
    master.state = "running"
    master.say("listening")
    order = hear(master)
    now = time.monotonic()
    server.order = {"came": now, "ends": now + max(0, order["timeout_ms"] / 1000 - 1.5)}
    master.state = "draining"
    threading.Thread(target=hear_on, args=(master, server), daemon=True).start()
    server.shutdown()
    if order["reason"] in ("stop", "orphaned"): server.accept_waiting()  # nobody else is left to accept these
    master.close(answer["key"])
    while threading.active_count() > before + 1 and time.monotonic() < server.order["ends"] + 1: time.sleep(0.02)
    master.say("disconnect")


def hear(master):
    """The order to go: the master's, or of necessity when there is none any more."""
    while True:
        try: return master.expect("disconnect")[0]
        except (EOFError, OSError) as why:
            if not master.comes_back(why): return {"reason": "orphaned", "timeout_ms": 30000}


def hear_on(master, server):
    """A later order may only shorten the time."""
    while True:
        timeout = hear(master)["timeout_ms"] / 1000
        server.order["ends"] = min(server.order["ends"], time.monotonic() + max(0, timeout - 1.5))


if __name__ == "__main__": sys.exit(main())
