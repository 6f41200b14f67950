#!/usr/bin/env python3
"""`llamita serve` against llama-server on this machine's CPU: same file, same threads, the same prompts to both, in turn.

Run: make bench-serve      (a C++ compiler and CMake; the network once, for llama-cpp-python's source archive)

llama-server comes out of llama-cpp-python's source archive, is built for this processor and runs with -np 16. Both servers
are up all the time and only one is asked at a time. For each number of concurrent streams a pair is: both servers stream
replies of the same length to the same prompts; who goes first takes turns. Prompts are random words, new in every round, so
that no prompt cache helps. Total tok/s counts the generated tokens over the wall time from the first request to the last
token. TTFT is from a request's first byte to its first token, TPOT the mean time between a stream's later tokens; their
percentiles are over all streams of all rounds. The ratio is the median of the pairs' ratios; a row whose ratios spread
(interquartile range over median) by more than 10 % is no result and says so.

  STREAMS=1,4,16  PAIRS=9  PROMPT=64  NEW=64  REQUESTS=2 a stream   more or less of it
  THREADS=2        of each server (default: the cores)
  MODEL=FILE       another GGUF file
  CHECK=1          exit 1 when 16 streams fall short of 1.5 times llama-server's total tok/s, or are no result
  PEER=DIR         a folder with llama-server that is built already
"""
import json
import os
import random
import re
import selectors
import socket
import statistics
import subprocess
import sys
import threading
import time
import urllib.request

from llama_cpp_build import ROOT, build, default_model, option

MUST = {16: 1.5}
MOST_SPREAD = 0.10
CONTEXT = 1024  # of a stream
WORDS = ("time year people way day man thing woman life child world school state family student group country problem hand "
         "part place case week company system program question work night point home water room mother area money story "
         "fact month lot right study book eye job word business issue side kind head house service friend father power "
         "hour game line end member law car city community name").split()


class Server:
    """One of the two, on a port of its own."""

    def __init__(self, name, command):
        self.name = name
        self.process = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.log = []
        self.port = int(option_after(command, "--port"))
        threading.Thread(target=self.read_log, daemon=True).start()
        end = time.monotonic() + 300
        while not self.ready():
            if time.monotonic() > end or self.process.poll() is not None:
                sys.exit(f"{name} does not serve: {''.join(self.log[-20:])}")
            time.sleep(0.2)

    def read_log(self):
        for line in self.process.stderr:
            self.log = [*self.log[-100:], line.decode(errors="replace")]

    def ready(self):
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).status == 200
        except OSError:
            return False

    def stop(self):
        self.process.terminate()
        self.process.wait()


def option_after(command, flag):
    return command[command.index(flag) + 1]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Stream:
    """A request under way; read with as little work as possible, because the servers need the cores."""

    def __init__(self, port, body):
        self.client = socket.create_connection(("127.0.0.1", port))
        self.client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        text = json.dumps(body).encode()
        head = (f"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(text)}\r\n\r\n")
        self.asked, self.times, self.rest, self.tokens = time.perf_counter(), [], b"", 0
        self.client.sendall(head.encode() + text)

    def read(self):
        """True at the end of the stream."""
        piece = self.client.recv(1 << 16)
        now = time.perf_counter()
        self.rest += piece
        events = self.rest.count(b'"text":') + self.rest.count(b'"text" :')
        done = b"data: [DONE]" in self.rest or not piece
        if done:
            if match := re.search(rb'"completion_tokens": ?(\d+)', self.rest):
                self.tokens = int(match[1])
            if not self.tokens:
                sys.exit(f"a stream ended without its usage: {self.rest[-500:]}")
            self.client.close()
        while len(self.times) < events:
            self.times.append(now)
        return done


def ask(server, prompts, streams, new):
    """All prompts, `streams` at a time: total tok/s, TTFT of each, TPOT of each."""
    waiting, done = list(prompts), []
    selector = selectors.DefaultSelector()

    def start():
        body = {"prompt": waiting.pop(), "max_tokens": new, "stream": True, "temperature": 0, "ignore_eos": True,
                "stream_options": {"include_usage": True}}
        stream = Stream(server.port, body)
        selector.register(stream.client, selectors.EVENT_READ, stream)

    begin = time.perf_counter()
    for _ in range(min(streams, len(waiting))):
        start()
    while selector.get_map():
        for key, _ in selector.select():
            stream = key.data
            if not stream.read():
                continue
            selector.unregister(key.fileobj)
            done.append(stream)
            if waiting:
                start()
    seconds = time.perf_counter() - begin
    counts = [stream.tokens for stream in done]
    if set(counts) != {new}:
        sys.exit(f"{server.name} generated {sorted(set(counts))} tokens a stream instead of {new}")
    firsts = [stream.times[0] - stream.asked for stream in done]
    steps = [(stream.times[-1] - stream.times[0]) / (new - 1) for stream in done]
    return sum(counts) / seconds, firsts, steps


def prompts(count, length, seed):
    """Random words; about one token each."""
    pick = random.Random(seed)
    return [" ".join(pick.choice(WORDS) for _ in range(length)) for _ in range(count)]


def measure(servers, streams):
    pairs, length, new = int(option("PAIRS", "9")), int(option("PROMPT", "64")), int(option("NEW", "64"))
    count = streams * int(option("REQUESTS", "2"))
    results = []
    for round_number in range(pairs + 1):
        texts = prompts(count, length, 1000 * streams + round_number)
        first = round_number % 2
        pair = [None, None]
        for who in (first, 1 - first):
            pair[who] = ask(servers[who], texts, streams, new)
        print(f"{streams} streams, round {round_number}: {pair[0][0]:.1f} / {pair[1][0]:.1f} = {pair[0][0] / pair[1][0]:.2f}",
              file=sys.stderr, flush=True)
        if round_number:  # the first one warms up
            results.append(pair)
    return results


def spread(values):
    if len(values) < 3:
        return 1.0
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / statistics.median(values)


def percentiles(values):
    """50 and 95 %, in milliseconds."""
    ordered = sorted(values)
    return " / ".join(f"{1000 * ordered[min(len(ordered) - 1, int(part * len(ordered)))]:.0f}" for part in (0.5, 0.95))


def report(streams, pairs):
    """Prints a row a server; returns whether the row is met (None without a target)."""
    ratios = [ours[0] / theirs[0] for ours, theirs in pairs]
    middle, width = statistics.median(ratios), spread(ratios)
    refused, must = width > MOST_SPREAD, MUST.get(streams)
    met = None if must is None else not refused and middle >= must * (1 - width / 2)
    for who, name in enumerate(("llamita", "llama-server")):
        totals = [pair[who][0] for pair in pairs]
        firsts = percentiles([value for pair in pairs for value in pair[who][1]])
        steps = percentiles([value for pair in pairs for value in pair[who][2]])
        ratio = [f"{middle:.2f}", f"{100 * width:.0f} %", must or "", "refused: spread" if refused else
                 "" if must is None else "met" if met else "short"] if who == 0 else ["", "", "", ""]
        print("| " + " | ".join(map(str, [streams, name, f"{statistics.median(totals):.1f}", firsts, steps, *ratio,
                                          len(pairs)])) + " |")
    return met


def main():
    peer = build("llama-server")
    model = option("MODEL", "") or default_model()
    threads = option("THREADS", str(len(os.sched_getaffinity(0))))
    wanted = [int(part) for part in option("STREAMS", "1,4,16").split(",")]
    most, ports = max(wanted), (free_port(), free_port())
    servers = []
    try:
        # The same room for both: CONTEXT tokens a stream, keys and values in f16.
        servers.append(Server("llamita", [ROOT / "build" / "llamita", "serve", model, "--port", ports[0], "-t", threads,
                                          "-c", CONTEXT, "--kv-memory", option("KV_MEMORY", "1000")]))
        servers.append(Server("llama-server", [peer / "llama-server", "-m", model, "--port", ports[1], "-t", threads, "-tb",
                                               threads, "-np", max(16, most), "-c", CONTEXT * max(16, most)]))
        print("| streams | server | total tok/s | TTFT ms 50 / 95 % | TPOT ms 50 / 95 % | ratio | spread | must | | pairs |")
        print("|---:|---|---:|---:|---:|---:|---:|---:|---|---:|")
        results = {streams: report(streams, measure(servers, streams)) for streams in wanted}
    finally:
        for server in servers:
            server.stop()
    if option("CHECK", "") == "1" and any(not results.get(streams) for streams in MUST):
        sys.exit("short of the target or no result: " + ", ".join(f"{streams} streams" for streams in MUST))


if __name__ == "__main__":
    main()
