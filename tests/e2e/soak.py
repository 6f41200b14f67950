#!/usr/bin/env python3
"""A crowd at `llamita serve`: soak.py URL PID [--streams 200] [--seconds 120] [--seed 1] [--skip-memory]
                               soak.py --self-test

Many clients at once ask for replies, streamed and whole; of every hundred requests 30 are given up (8 in the queue, 7 in
prefill, 8 in decode, 7 when the reply is just finished; half of them by closing, a quarter with a reset, a quarter by
closing the sending side), 5 are read too slowly, and 2 are no requests at all. There are more clients than seats, so a
request that is given up soon after it was sent is given up in the queue; one that ranks before all others and has a long
prompt is in prefill for about as long as the last such one waited for its first token. What phase a cancel really met the
server counts; each must have met 5 % of them. Where a slow machine sees too few requests, two further crowds come at most.
The first quarter of the time warms up, with two crowds. Afterwards, once nothing is under way: memory and descriptors are
what they were after the warm-up, all KV blocks are free, no stream was left idle or overtaken, malformed requests got their
4xx, and 50 replies, asked for again one by one, are the same to the letter. Standard library only; the server must be on this
machine.

--self-test gives the verdict measurements that break one bound each: every one must be found.
"""
import argparse
import asyncio
import contextlib
import http.client
import json
import os
import random
import re
import socket
import struct
import sys
import time
import urllib.parse

MOST_IDLE = 5.0      # seconds between two events of a stream, and that later requests may be served first
MOST_GROWTH = 1.0    # MiB of resident memory, after the warm-up
SLOW_FOR = 12.0      # seconds until a slow reader has had enough
REPLAYED = 50
KINDS = (("queued", 8), ("prefill", 7), ("decode", 8), ("finished", 7), ("slow", 5), ("malformed", 2))  # in a hundred
GIVEN_UP = ("queued", "prefill", "decode", "finished")
LEAST_IN_PHASE = 0.05  # of those that are given up, in each phase
MOST_CROWDS = 3        # one after the other while too few came to see all this: chance decides who does what
LEAST_GIVEN_UP = 0.25  # of all requests, where 0.30 are wanted and chance decides
MANNERS = ("close", "close", "reset", "half")
PATIENCE = 120.0     # seconds for anything else
SHARED = "You are a careful assistant who answers briefly and never guesses. "
TOPICS = ["llamas", "rivers", "the moon", "bread", "prime numbers", "old maps", "rain", "bridges", "clocks", "salt"]
MALFORMED = [
    b"GET\r\n\r\n", b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{\"a\": [1]",
    b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 13\r\n\r\n{\"prompt\": 5}",
    b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", b"DELETE /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
]


class Record:
    """One request: when it was asked for, when each event came, how it ended. `manner`: of leaving, if it is given up."""

    def __init__(self, kind, body, manner):
        self.kind, self.body, self.manner, self.streams = kind, body, manner, body.get("stream", False)
        self.asked, self.events, self.text, self.status, self.whole = time.monotonic(), [], "", 0, False
        self.raw, self.finished = b"", False  # the last event before the usage came, or the head of a whole reply


class Crowd:
    def __init__(self, port, seed):
        self.port, self.random, self.records, self.malformed, self.stop_at = port, random.Random(seed), [], [], 0.0
        # Seconds to the first event, as the last ones saw it that stayed so long: of a long prompt, of any other.
        self.prefill, self.begin = 0.5, 0.3

    def kind(self):
        draw = self.random.random() * 100
        for kind, part in KINDS:
            if draw < part:
                return kind
            draw -= part
        return "whole"

    def body(self, kind):
        pick = self.random
        question = f"{SHARED}Tell me {pick.randrange(1000)} things about {pick.choice(TOPICS)}. " * pick.choice([1, 1, 1, 4])
        body = {"stream": True, "max_tokens": pick.choice([4, 16, 16, 32, 48]), "seed": pick.randrange(1 << 30),
                "temperature": pick.choice([0, 0.8, 1.2]), "stream_options": {"include_usage": True}}
        if kind == "slow":  # many bytes a token
            body |= {"n": 4, "logprobs": True, "top_logprobs": 20, "max_tokens": 100, "ignore_eos": True}
        if kind == "prefill":  # a prompt of several steps that no other one shares, and no waiting for its turn
            question = "Add up " + " ".join(str(pick.randrange(10000, 99999)) for _ in range(100))
            body |= {"priority": -1}
        if kind in GIVEN_UP and pick.random() < 0.4:
            del body["stream"], body["stream_options"]
            if kind == "decode":  # there is nothing to see of it
                body |= {"priority": -1, "max_tokens": 200, "ignore_eos": True}
        return body | {"messages": [{"role": "user", "content": question}]}

    async def connect(self, kind):
        client = socket.socket()
        client.setblocking(False)
        if kind == "slow":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await asyncio.wait_for(asyncio.get_running_loop().sock_connect(client, ("127.0.0.1", self.port)), PATIENCE)
        return client

    async def client(self):
        while time.monotonic() < self.stop_at:
            kind = self.kind()
            client = await self.connect(kind)
            with client:
                if kind == "malformed":
                    await self.send_malformed(client)
                    continue
                record = Record(kind, self.body(kind), self.random.choice(MANNERS))
                self.records.append(record)
                await self.send(client, record.body)
                await self.follow(client, record)

    async def send(self, client, body):
        text = json.dumps(body).encode()
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(text)}\r\n\r\n".encode()
        await asyncio.get_running_loop().sock_sendall(client, head + text)

    async def send_malformed(self, client):
        loop = asyncio.get_running_loop()
        request = self.random.choice(MALFORMED)
        await loop.sock_sendall(client, request)
        reply = await asyncio.wait_for(loop.sock_recv(client, 4096), PATIENCE)
        self.malformed.append((request, int(reply[9:12]) if reply.startswith(b"HTTP/1.1 ") else 0))

    async def follow(self, client, record):
        """Reads the reply as its kind reads it, and leaves."""
        if record.kind in ("whole", "slow"):
            async for piece in self.pieces(client, record):
                if take(record, piece) or (record.kind == "slow" and time.monotonic() > record.asked + SLOW_FOR):
                    break
            if record.kind == "whole" and record.events:
                self.begin = (self.begin + record.events[0] - record.asked) / 2
            return
        with contextlib.suppress(TimeoutError, asyncio.TimeoutError):
            await asyncio.wait_for(self.read_until_leaving(client, record), self.patience(record))
        if record.kind == "prefill" and record.events:
            self.prefill = (self.prefill + record.events[0] - record.asked) / 2
        await self.leave(client, record)

    def patience(self, record):
        """Seconds after which it is given up, whatever came."""
        if record.kind == "queued":
            return self.random.random() * min(self.begin, 0.3)
        if record.kind == "prefill":
            return self.prefill * (0.2 + self.random.random())
        return 1 + self.random.random() * 2 if record.kind == "decode" and not record.streams else PATIENCE

    async def read_until_leaving(self, client, record):
        leave_after = self.random.randrange(1, 8) if record.kind == "decode" else 1
        async for piece in self.pieces(client, record):
            ended = take(record, piece)
            if record.finished if record.kind == "finished" else len(record.events) >= leave_after:
                return
            if ended:
                return

    async def leave(self, client, record):
        if record.manner == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif record.manner == "half":
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_WR)
            async for _ in self.pieces(client, record):  # until the server hangs up
                pass

    async def pieces(self, client, record):
        loop = asyncio.get_running_loop()
        stalls = record.kind == "slow" and self.random.random() < 0.5
        while True:
            if record.kind == "slow":
                await asyncio.sleep(SLOW_FOR if stalls else 0.2)
            try:
                piece = await asyncio.wait_for(loop.sock_recv(client, 1024 if record.kind == "slow" else 65536), PATIENCE)
            except (ConnectionError, TimeoutError, asyncio.TimeoutError):
                return
            if not piece:
                return
            yield piece


def take(record, piece):
    """Adds bytes to a record; True at the end of the reply, and when it is an error."""
    record.raw += piece
    if not record.status and len(record.raw) > 12:
        record.status = int(record.raw[9:12])
    if not record.streams:
        record.finished = record.whole = record.status == 200  # its head is sent with its end
    while (begin := record.raw.find(b"data: ")) >= 0 and (end := record.raw.find(b"\n\n", begin)) >= 0:
        event, record.raw = record.raw[begin + 6:end], record.raw[end + 2:]
        if event == b"[DONE]":
            record.whole = True
            return True
        record.events.append(time.monotonic())
        value = json.loads(event)
        if "error" in value:
            record.status = 500
        for choice in value.get("choices", []):
            record.finished = record.finished or choice["finish_reason"] is not None
            if choice["index"] == 0:
                record.text += choice["delta"].get("content") or ""
    return record.status >= 400


def get(port, path):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().read().decode()


def when_idle(port):
    """The engine's state once nothing is under way, or what is still there after PATIENCE."""
    end = time.monotonic() + PATIENCE
    while True:
        live = json.loads(get(port, "/live"))
        if not (live["busy"] or live["running"] or live["waiting"] or live["blocks_used"]) or time.monotonic() > end:
            return live
        time.sleep(0.1)


def resources(pid):
    """Resident MiB and open descriptors, once closed connections are noticed."""
    time.sleep(1)
    pages = int(open(f"/proc/{pid}/statm").read().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / (1 << 20), len(os.listdir(f"/proc/{pid}/fd"))


def overtaken(records):
    """The longest time by which a request was asked for before one that was served earlier."""
    begun = sorted((r for r in records if r.events and r.kind != "slow" and "priority" not in r.body),
                   key=lambda record: record.events[0])
    longest, latest_asked = 0.0, 0.0
    for record in begun:
        longest = max(longest, latest_asked - record.asked)
        latest_asked = max(latest_asked, record.asked)
    return longest


def counter(port, name):
    """What /metrics says of a counter, under whatever prefix and with whatever labels beside `name`'s."""
    name, _, label = name.partition("{")
    labels = rf"(?:\{{[^}}]*{re.escape(label.rstrip('}'))}[^}}]*\}})?"
    found = re.search(rf"^[^#\s]*{name}{labels} (\S+)$", get(port, "/metrics"), re.M)
    return int(float(found[1]))


def cancels(port):
    """By phase, as the engine counted them."""
    return {phase: counter(port, f'cancelled_requests_total{{phase="{phase}"}}') for phase in ("queued", "prefill", "decode")}


def replay(port, record):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    with contextlib.closing(connection):
        body = {key: value for key, value in record.body.items() if not key.startswith("stream")}
        connection.request("POST", "/v1/chat/completions", json.dumps(body))
        return json.loads(connection.getresponse().read())["choices"][0]["message"]["content"] == record.text


async def run_crowd(port, streams, seconds, seed):
    crowd = Crowd(port, seed)
    crowd.stop_at = time.monotonic() + seconds
    await asyncio.gather(*(crowd.client() for _ in range(streams)))
    return crowd


def measure(port, pid, streams, seconds, seed):
    for warm_up in (1, 2):  # a second crowd that comes all at once finds the allocator as it stays
        asyncio.run(run_crowd(port, streams, seconds / 8, seed + warm_up))
        when_idle(port)
    memory, descriptors = resources(pid)
    before = cancels(port)
    records, malformed, by_phase = [], [], {}
    for turn in range(MOST_CROWDS):
        crowd = asyncio.run(run_crowd(port, streams, seconds * 3 / 4, seed + 10 * turn))
        records += crowd.records
        malformed += crowd.malformed
        live = when_idle(port)
        given_up = [record for record in records if record.kind in GIVEN_UP]
        by_phase = {phase: count - before[phase] for phase, count in cancels(port).items()}
        # These left when their reply was just finished: nothing was left to cancel, and the client saw it.
        by_phase["finished"] = sum(record.kind == "finished" and record.finished for record in given_up)
        whole = [record for record in records if record.kind == "whole"]
        finished = [record for record in whole if record.whole]
        wanted = LEAST_GIVEN_UP * (len(records) + len(malformed))
        if met_every_phase(by_phase) and malformed and len(finished) >= REPLAYED and len(given_up) >= wanted:
            break
    memory_after, descriptors_after = resources(pid)
    gaps = [later - earlier for record in finished for earlier, later in zip(record.events, record.events[1:])]
    again = random.Random(seed).sample(finished, min(REPLAYED, len(finished)))
    return {
        "requests": len(records) + len(malformed),
        "kinds": {kind: sum(record.kind == kind for record in records) for kind in ("whole", *GIVEN_UP, "slow")},
        "given up": len(given_up), "given up in phase": by_phase,
        "given up streams and whole replies":
            [sum(record.streams == streams for record in given_up) for streams in (True, False)],
        "given up by": {manner: sum(record.manner == manner for record in given_up) for manner in ("close", "reset", "half")},
        "malformed": len(malformed), "malformed statuses": sorted({status for _, status in malformed}),
        "finished": len(finished), "unfinished": [record.status for record in whole if not record.whole],
        "longest gap": max(gaps, default=0), "longest overtaking": overtaken(records),
        "replayed": len(again), "replies that differ": sum(not replay(port, record) for record in again),
        "slow readers dropped": counter(port, "llamita_slow_readers_dropped_total"),
        "left": {name: live[name] for name in ("running", "waiting", "blocks_used")}, "preemptions": live["preemptions"],
        "memory growth": memory_after - memory, "descriptors": (descriptors, descriptors_after),
        "body bytes": counter(port, "llamita_http_body_bytes"), "health": json.loads(get(port, "/health"))["status"],
    }


def met_every_phase(phases):
    return all(count > 0 and count >= LEAST_IN_PHASE * sum(phases.values()) for count in phases.values())


def verdict(seen, skip_memory=False):
    """What is wrong, as sentences."""
    wrong = []

    def must(good, what):
        if not good:
            wrong.append(what)

    must(seen["finished"] >= REPLAYED and seen["replayed"] == REPLAYED, f"only {seen['finished']} streams came to their end")
    must(not seen["unfinished"], f"streams that should have ended did not: statuses {seen['unfinished'][:20]}")
    must(seen["replies that differ"] == 0, f"{seen['replies that differ']} replies differ when asked for alone")
    must(seen["longest gap"] <= MOST_IDLE, f"a stream was idle for {seen['longest gap']:.1f} s")
    must(seen["longest overtaking"] <= MOST_IDLE, f"a request was overtaken by one of {seen['longest overtaking']:.1f} s later")
    must(all(400 <= status < 500 for status in seen["malformed statuses"]) and seen["malformed"],
         f"malformed requests were answered {seen['malformed statuses']}")
    must(all(seen["kinds"].values()), f"a kind of client never came: {seen['kinds']}")
    phases = seen["given up in phase"]
    must(met_every_phase(phases), f"in one of the phases left less than {LEAST_IN_PHASE:.0%}: {phases}")
    must(all(seen["given up by"].values()), f"a manner of leaving never came: {seen['given up by']}")
    must(all(seen["given up streams and whole replies"]), "only streams, or only whole replies, were given up")
    must(seen["given up"] >= LEAST_GIVEN_UP * seen["requests"], f"only {seen['given up']} of {seen['requests']} were given up")
    must(seen["body bytes"] == 0, f"{seen['body bytes']} bytes of bodies are still held")
    must(not any(seen["left"].values()), f"something is left: {seen['left']}")
    must(seen["slow readers dropped"] > 0, "no slow reader was dropped")
    must(skip_memory or seen["memory growth"] <= MOST_GROWTH, f"resident memory grew by {seen['memory growth']:.2f} MiB")
    must(seen["descriptors"][1] <= seen["descriptors"][0], f"descriptors before and after: {seen['descriptors']}")
    must(seen["health"] == "ok", f"/health says {seen['health']}")
    return wrong


def self_test():
    good = {"requests": 700, "given up": 210, "given up in phase": {"queued": 60, "prefill": 9, "decode": 50, "finished": 40},
            "given up by": {"close": 100, "reset": 50, "half": 60}, "given up streams and whole replies": [120, 90],
            "body bytes": 0, "finished": 400, "replayed": REPLAYED, "unfinished": [], "replies that differ": 0,
            "longest gap": 1.0, "longest overtaking": 0.5, "malformed": 3, "malformed statuses": [400, 405], "kinds": {"whole": 1, "slow": 1},
            "left": {"running": 0, "blocks_used": 0}, "slow readers dropped": 2, "memory growth": 0.1,
            "descriptors": (12, 12), "health": "ok"}
    assert verdict(good) == [], verdict(good)
    for name, value in (("finished", 10), ("unfinished", [200]), ("replies that differ", 1), ("longest gap", 5.1),
                        ("longest overtaking", 6), ("malformed statuses", [400, 500]), ("malformed", 0),
                        ("kinds", {"whole": 1, "slow": 0}), ("left", {"blocks_used": 1}), ("slow readers dropped", 0),
                        *(("given up in phase", {"queued": 95, "prefill": 95, "decode": 95, "finished": 95} | {phase: few})
                          for phase in GIVEN_UP for few in (0, 14)),
                        ("given up by", {"close": 1, "reset": 0, "half": 1}), ("given up", 174), ("body bytes", 1),
                        ("given up streams and whole replies", [5, 0]), ("memory growth", 1.1), ("descriptors", (12, 13)),
                        ("health", "stalled")):
        assert len(verdict(good | {name: value})) == 1, name
    print("soak: self-test passed")


def main():
    if sys.argv[1:] == ["--self-test"]:
        return self_test()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("pid", type=int)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--skip-memory", action="store_true", help="sanitizers keep memory of their own")
    arguments = parser.parse_args()
    port = urllib.parse.urlsplit(arguments.url).port
    seen = measure(port, arguments.pid, arguments.streams, arguments.seconds, arguments.seed)
    for name, value in seen.items():
        print(f"soak: {name}: {value}")
    wrong = verdict(seen, arguments.skip_memory)
    if wrong:
        sys.exit("soak: " + "\nsoak: ".join(wrong))
    print("soak: passed")


if __name__ == "__main__":
    main()
