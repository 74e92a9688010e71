#!/usr/bin/env python3
"""Observe witness guests from the outside: when heartbeats arrive, what they tell, and whether TCP holds.

One JSON object a line on standard input, one answer a line on standard output, in order:

    {"op": "watch", "id": 10, "ip": "192.168.122.11"}     watch a guest (anew); "ip2": its second NIC, too
    {"op": "wait", "id": 10, "beats": 50, "timeout": 60}  for so many more beats, RAM filled, TCP connected
    {"op": "mark"}                                        reset what is counted here ("id": of one guest)
    {"op": "report"}                                      {"guests": {"10": {...}}} ("id": one guest only)
    {"op": "quit"}

Every answer has "ok"; a failure has "error".
"""

import argparse
import contextlib
import heapq
import json
import os
import selectors
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TextIO

PORT = 7007
MAGIC, VERSION = 0x54495756, 1
BEAT = struct.Struct("<IHH8Q4I")  # heartbeat.c has the other end
ECHO_PORT = 7
TICK = 0.01  # the kernel stamps arrivals, so beats may wait a little and be read many at a time
ECHO_EVERY, RETRY_EVERY, CONNECT_LIMIT = 0.02, 0.5, 2.0
NOTABLE_GAP_NS, GAPS_KEPT = 10_000_000, 50
RECEIVE_BUFFER = 64 << 20

# Linux's, of 64-bit machines; the socket module has no names for them.
SO_RCVBUFFORCE, SO_TIMESTAMPNS, SO_RXQ_OVFL = 33, 35, 40
TIMESPEC = struct.Struct("@qq")

Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Beat:
    """One heartbeat; `at` is when the kernel received it, in nanoseconds."""

    at: int
    id: int
    boot_mark: int
    seq: int
    time_ns: int
    ram_passes: int
    ram_errors: int
    disk_writes: int
    disk_errors: int
    disk_verified: int
    ram_mib: int
    interval_us: int
    disk_age_ms: int
    failures: int


def parse_beat(data: bytes, at: int) -> Beat | None:
    if len(data) != BEAT.size:
        return None
    magic, version, *rest = BEAT.unpack(data)
    return Beat(at, *rest) if (magic, version) == (MAGIC, VERSION) else None


class Gaps:
    """The longest times between two beats."""

    def __init__(self, since: int) -> None:
        self.since = since
        self.longest = 0
        self.count = 0
        self.kept: list[tuple[int, int]] = []  # a heap of (length, start)

    def add(self, start: int, end: int) -> None:
        length = end - start
        self.longest = max(self.longest, length)
        if length <= NOTABLE_GAP_NS:
            return
        self.count += 1
        push = heapq.heappush if len(self.kept) < GAPS_KEPT else heapq.heappushpop
        push(self.kept, (length, start))

    def listed(self) -> list[dict[str, float]]:
        in_order = sorted(self.kept, key=lambda gap: gap[1])
        return [{"start_ms": ms(start - self.since), "ms": ms(length)} for length, start in in_order]


def ms(ns: float) -> float:
    return round(ns / 1e6, 3)


@dataclass
class Beats:
    """What one guest's beats add up to since the last mark."""

    since: int
    last: Beat | None = None
    newest: dict[int, int] = field(default_factory=dict)  # boot mark -> highest sequence number, never forgotten
    total: int = 0  # never reset

    def __post_init__(self) -> None:
        self.mark(self.since)

    def mark(self, now: int) -> None:
        self.gaps = Gaps(now)
        self.first: Beat | None = None
        self.base = self.last
        self.received = self.lost = self.repeated = self.switches = 0
        self.boots: list[int] = [self.last.boot_mark] if self.last else []

    def add(self, beat: Beat) -> None:
        self.total += 1
        self.received += 1
        self.first = self.first or beat
        self.base = self.base or beat
        if self.last:
            self.gaps.add(self.last.at, beat.at)
            self.switches += beat.boot_mark != self.last.boot_mark
        if beat.boot_mark not in self.boots:
            self.boots.append(beat.boot_mark)
        self._order(beat)
        self.last = beat

    def _order(self, beat: Beat) -> None:
        newest = self.newest.get(beat.boot_mark)
        if newest is None:
            self.newest[beat.boot_mark] = beat.seq
        elif beat.seq <= newest:
            self.repeated += 1
        else:
            self.lost += beat.seq - newest - 1
            self.newest[beat.boot_mark] = beat.seq

    def report(self, now: int) -> Answer:
        if not self.last:
            return {"received": 0, "boot_mark": None, "last_heartbeat_age_ms": None}
        age = now - self.last.at
        longest = max(self.gaps.longest, age)  # a guest that stopped for good has a gap without an end
        return {
            "boot_mark": f"{self.last.boot_mark:016x}",
            "boot_marks_seen": [f"{mark:016x}" for mark in self.boots],
            "boot_mark_switches": self.switches,
            "seq_first": self.first.seq if self.first else None,
            "seq_last": self.last.seq,
            "received": self.received,
            "lost": self.lost,
            "duplicates_or_reordered": self.repeated,
            "interval_ms": self.last.interval_us / 1000,
            "longest_gap_ms": ms(longest),
            "pause_ms": ms(max(0, longest - self.last.interval_us * 1000)),
            "gaps_over_10ms": self.gaps.count,
            "gaps": self.gaps.listed(),
            "last_heartbeat_age_ms": ms(age),
            **self._guest(self.last, self.base or self.last),
        }

    @staticmethod
    def _guest(last: Beat, base: Beat) -> Answer:
        """What the guest counts: since its boot, and how much of it since the mark."""
        counted = ("ram_passes", "ram_errors", "disk_writes", "disk_errors", "disk_verified")
        answer: Answer = {name: getattr(last, name) for name in counted}
        if base.boot_mark == last.boot_mark:
            answer |= {f"{name}_since_mark": getattr(last, name) - getattr(base, name) for name in counted}
        # How much its clock gained since the mark: it loses the time in which it stood still.
        answer["clock_ms"] = ms((last.time_ns - base.time_ns) - (last.at - base.at))
        return answer | {"ram_mib": last.ram_mib, "disk_age_ms": last.disk_age_ms, "failures": last.failures}


class Echo:
    """One TCP connection: sends numbered lines, expects them back in order; once broken, it stays so."""

    def __init__(self, ip: str, selector: selectors.BaseSelector) -> None:
        self.ip = ip
        self.selector = selector
        self.state = "connecting"  # "alive", or why it is dead
        self.established = False
        self.socket: socket.socket | None = None
        self.next_at = 0.0
        self.sent = 0
        self.waiting: deque[tuple[bytes, float]] = deque()
        self.buffer = b""
        self.mark()

    def mark(self) -> None:
        self.round_trips = 0
        self.longest = 0.0

    @property
    def alive(self) -> bool:
        return self.state == "alive"

    def tick(self, now: float) -> None:
        if now < self.next_at:
            return
        if self.alive:
            self.next_at = max(self.next_at + ECHO_EVERY, now)
            self._attempt(self._send, now)
        elif self.state == "connecting":
            self._connect(now)

    def _connect(self, now: float) -> None:
        self._forget_socket()
        self.next_at = now + CONNECT_LIMIT
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.connect_ex((self.ip, ECHO_PORT))
        self.selector.register(self.socket, selectors.EVENT_WRITE, self._connected)

    def _connected(self, now: float) -> None:
        assert self.socket
        if self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._forget_socket()
            self.next_at = now + RETRY_EVERY
            return
        self.selector.modify(self.socket, selectors.EVENT_READ, partial(self._attempt, self._receive))
        self.state, self.established, self.next_at = "alive", True, now

    def _attempt(self, step: Callable[[float], None], now: float) -> None:
        try:
            step(now)
        except BlockingIOError:
            pass  # the guest stands still: later
        except OSError as error:
            self.state = str(error)
            self._forget_socket()

    def _send(self, now: float) -> None:
        assert self.socket
        line = b"%d\n" % self.sent
        if self.socket.send(line) != len(line):
            raise ConnectionError("a line was sent in part")
        self.sent += 1
        self.waiting.append((line.rstrip(), now))

    def _receive(self, now: float) -> None:
        assert self.socket
        data = self.socket.recv(65536)
        if not data:
            raise ConnectionError("closed by the guest")
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        for line in lines:
            self._take(line, now)

    def _take(self, line: bytes, now: float) -> None:
        if not self.waiting or self.waiting[0][0] != line:
            raise ConnectionError(f"out of order: {line[:40]!r}")
        sent_at = self.waiting.popleft()[1]
        self.round_trips += 1
        self.longest = max(self.longest, now - sent_at)

    def _forget_socket(self) -> None:
        if self.socket:
            if self.socket in self.selector.get_map():
                self.selector.unregister(self.socket)
            self.socket.close()
        self.socket = None

    close = _forget_socket

    def longest_ms(self, now: float) -> float:
        """A line that is still under way counts as long as it has been."""
        oldest = now - self.waiting[0][1] if self.alive and self.waiting else 0.0
        return ms(max(self.longest, oldest) * 1e9)


class Guest:
    def __init__(self, ips: list[str], selector: selectors.BaseSelector) -> None:
        self.beats = Beats(time.time_ns())
        self.echoes = [Echo(ip, selector) for ip in ips]

    def mark(self, now: int) -> None:
        self.beats.mark(now)
        for echo in self.echoes:
            echo.mark()

    def ready(self, total: int) -> bool:
        last = self.beats.last
        return bool(
            last and self.beats.total >= total and last.ram_mib and all(echo.established for echo in self.echoes)
        )

    def tick(self, now: float) -> None:
        for echo in self.echoes:
            echo.tick(now)

    def close(self) -> None:
        for echo in self.echoes:
            echo.close()

    def report(self, now: int) -> Answer:
        monotonic = time.monotonic()
        return self.beats.report(now) | {
            "tcp_alive": all(echo.alive for echo in self.echoes),
            "tcp_states": {echo.ip: echo.state for echo in self.echoes},
            "tcp_round_trips": min(echo.round_trips for echo in self.echoes),
            "tcp_longest_ms": max(echo.longest_ms(monotonic) for echo in self.echoes),
        }


class Receiver:
    """The socket that all guests' beats arrive at."""

    def __init__(self, port: int) -> None:
        self.dropped = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self.socket.setsockopt(socket.SOL_SOCKET, SO_RXQ_OVFL, 1)
        try:
            self.socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BUFFER)
        except PermissionError:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
        self.socket.bind(("0.0.0.0", port))

    def drain(self, take: Callable[[Beat], None]) -> None:
        """All that has arrived."""
        while True:
            try:
                data, ancillary, _, _ = self.socket.recvmsg(256, 128)
            except BlockingIOError:
                return
            beat = parse_beat(data, self._stamp(ancillary))
            if beat:
                take(beat)

    def _stamp(self, ancillary: list[tuple[int, int, bytes]]) -> int:
        at = 0
        for _, kind, value in ancillary:
            if kind == SO_TIMESTAMPNS:
                seconds, ns = TIMESPEC.unpack(value)
                at = seconds * 1_000_000_000 + ns
            elif kind == SO_RXQ_OVFL:
                (self.dropped,) = struct.unpack("=I", value)
        return at or time.time_ns()


@dataclass
class Wait:
    guest: Guest
    total: int
    until: float


class Watcher:
    """Everything runs in one loop: beats every tick, echoes and requests as they come."""

    def __init__(self, receiver: Receiver, requests: int, answers: TextIO) -> None:
        self.receiver = receiver
        self.requests = requests
        self.answers = answers
        self.selector = selectors.DefaultSelector()
        self.selector.register(requests, selectors.EVENT_READ, self._read_requests)
        self.guests: dict[int, Guest] = {}
        self.lines: deque[bytes] = deque()
        self.buffer = b""
        self.waiting: Wait | None = None
        self.running = True
        self.unknown = 0

    def run(self) -> None:
        next_tick = time.monotonic()
        while self.running:
            timeout = max(0.0, next_tick - time.monotonic())
            for key, _ in self.selector.select(timeout):
                key.data(time.monotonic())
            self._serve()
            now = time.monotonic()
            if now >= next_tick:
                next_tick = now + TICK
                self._tick(now)

    def _tick(self, now: float) -> None:
        self.receiver.drain(self._take)
        for guest in self.guests.values():
            guest.tick(now)
        if self.waiting:
            self._look_again(self.waiting, now)

    def _take(self, beat: Beat) -> None:
        guest = self.guests.get(beat.id)
        if guest:
            guest.beats.add(beat)
        else:
            self.unknown += 1

    def _read_requests(self, now: float) -> None:
        data = os.read(self.requests, 65536)
        if not data:
            self.running = False
        *lines, self.buffer = (self.buffer + data).split(b"\n")
        self.lines.extend(line for line in lines if line.strip())

    def _serve(self) -> None:
        while self.lines and self.running and not self.waiting:
            line = self.lines.popleft()
            try:
                answer = self._do(json.loads(line))
            except (ValueError, KeyError, TypeError) as error:
                answer = {"ok": False, "error": f"{type(error).__name__}: {error}"}
            if answer is not None:
                self._answer(answer)

    def _answer(self, answer: Answer) -> None:
        self.answers.write(json.dumps(answer) + "\n")
        self.answers.flush()

    def _do(self, request: Answer) -> Answer | None:
        """The answer; None if it comes later."""
        match request["op"]:
            case "watch":
                return self._watch(request["id"], [request[name] for name in ("ip", "ip2") if request.get(name)])
            case "wait":
                self._begin_wait(request)
                return None
            case "mark":
                self.receiver.drain(self._take)
                for guest in self._chosen(request).values():
                    guest.mark(time.time_ns())
                return {"ok": True}
            case "report":
                return self._report(self._chosen(request))
            case "quit":
                self.running = False
                return {"ok": True}
            case other:
                raise ValueError(f"unknown op {other!r}")

    def _chosen(self, request: Answer) -> dict[int, Guest]:
        return {request["id"]: self.guests[request["id"]]} if "id" in request else self.guests

    def _watch(self, number: int, ips: list[str]) -> Answer:
        if not ips:
            raise ValueError("no ip")
        if number in self.guests:
            self.guests[number].close()
        self.guests[number] = Guest(ips, self.selector)
        return {"ok": True}

    def _begin_wait(self, request: Answer) -> None:
        guest = self.guests[request["id"]]
        total = guest.beats.total + int(request.get("beats", 1))
        self.waiting = Wait(guest, total, time.monotonic() + float(request.get("timeout", 60)))

    def _look_again(self, wait: Wait, now: float) -> None:
        ready = wait.guest.ready(wait.total)
        if not ready and now < wait.until:
            return
        self.waiting = None
        answer = {"ok": ready} if ready else {"ok": False, "error": "timeout"}
        report = wait.guest.report(time.time_ns())
        self._answer(answer | {name: report.get(name) for name in ("received", "boot_mark", "ram_mib", "tcp_states")})

    def _report(self, guests: dict[int, Guest]) -> Answer:
        self.receiver.drain(self._take)
        now = time.time_ns()
        return {
            "ok": True,
            "guests": {str(number): guest.report(now) for number, guest in guests.items()},
            "socket_drops": self.receiver.dropped,
            "beats_of_others": self.unknown,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description="Observe witness guests; JSON lines on standard input and output.")
    parser.add_argument("--port", type=int, default=PORT, help="UDP port of the heartbeats (default: %(default)s)")
    options = parser.parse_args()
    with contextlib.suppress(PermissionError):  # a little less exact
        os.nice(-10)
    Watcher(Receiver(options.port), sys.stdin.fileno(), sys.stdout).run()


if __name__ == "__main__":
    main()
