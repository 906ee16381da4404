"""The wire to Redis when Redis hangs, ends, or forgets its scripts."""

from __future__ import annotations

import signal
import socket
import struct
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from types import FrameType
from typing import Any

import pytest

from tests.integration.conftest import Way
from tests.proxy import Proxy
from tests.waiting import slowness, wait_until
from writebehind.errors import MistypedKeyError, RedisFullError, RedisUnavailableError
from writebehind.local.embedded import EmbeddedRedis
from writebehind.redis.keys import partition_keys
from writebehind.redis.scripts import script
from writebehind.redis.wire import CERTAIN_S, MOST_BUFFERED, Wire, connection_pool, limit_waits

TIMEOUT_MS = 300
#: Around what TLS, the parser's buffer and the largest documents hold.
SIZES = [0, 1, 4_095, 4_096, 16_383, 16_384, 16_385, 65_535, 65_536, 1 << 20, 16 << 20]


class InterruptedByTestError(BaseException):
    """What a signal handler raises, as at Celery's soft time limit."""


@pytest.fixture
def way(valkey, way_to) -> Iterator[Way]:
    with way_to("redis", valkey.port) as way:
        yield way


@pytest.fixture
def proxy(way) -> Proxy:
    return way.proxy


@pytest.fixture
def wire(way) -> Iterator[Wire]:
    wire = Wire(connection_pool(way.url, TIMEOUT_MS))
    yield wire
    wire.close()


def test_a_server_that_hangs_is_waited_for_no_longer_than_allowed(wire, proxy):
    """A call to a Redis that does not answer fails in time, on an open connection and on a new one."""
    assert wire.call("PING") == b"PONG"
    proxy.hang()
    for _ in range(2):
        start = time.monotonic()
        with pytest.raises(RedisUnavailableError):
            wire.call("PING")
        assert time.monotonic() - start < 10 * TIMEOUT_MS / 1000 * slowness()
    proxy.flow()

    assert wait_until(lambda: wire.call("PING") == b"PONG", "an answer")


def test_only_one_waits_for_a_server_that_hangs(wire, proxy):
    """After one call has waited in vain the others fail at once, and after the pause one of them finds out."""
    wire.call("PING")
    proxy.hang()
    with pytest.raises(RedisUnavailableError):
        wire.call("PING")

    def ask(_: int) -> float:
        began = time.monotonic()
        with pytest.raises(RedisUnavailableError):
            wire.call("PING")
        return time.monotonic() - began

    with ThreadPoolExecutor(8) as threads:
        assert max(threads.map(ask, range(50))) < TIMEOUT_MS / 1000
        wait_until(lambda: time.monotonic() > wire._paused_until, "the pause to be over")
        waits = sorted(threads.map(ask, range(8)))
    assert waits[-2] < TIMEOUT_MS / 1000 <= waits[-1]
    proxy.flow()
    assert wait_until(lambda: wire.call("PING") == b"PONG", "an answer")
    assert [b"PONG"] * 20 == [wire.call("PING") for _ in range(20)]


def test_a_server_that_is_down_is_asked_each_time(tmp_path):
    """A refused connection costs no wait, so the first call after the server is back succeeds."""
    server = EmbeddedRedis(tmp_path).start()
    wire = Wire(connection_pool(server.url, 2_000))
    wire.call("PING")
    server.kill()
    for _ in range(10):
        with pytest.raises(RedisUnavailableError, match="does not answer"):
            wire.call("PING")
    with server:
        assert wire.call("PING") == b"PONG"
        wire.close()


def test_a_command_after_steps_is_on_their_connection(wire):
    """A command that follows steps is answered after them, also when the server had forgotten the script."""
    step = script("get_or_lease_entry")
    wire.call("FLUSHALL")
    wire.call("SCRIPT", "FLUSH")
    for expected in ([b"load"], [b"wait"]):
        answers, count = wire.run_each(step, [(("entry", "load"), ("token", 5_000))], ("DBSIZE",))
        assert ([expected], 1) == (answers, count)


def test_an_answer_that_comes_late_is_not_taken_for_another(wire, proxy):
    """After a time-out no call gets the answer of the one before."""
    wire.call("SET", "one", "1")
    wire.call("SET", "two", "2")
    proxy.hang()
    with pytest.raises(RedisUnavailableError):
        wire.call("GET", "one")
    proxy.flow()

    assert wait_until(lambda: wire.call("GET", "two"), "an answer") == b"2"


def test_connections_that_the_server_closed_are_not_used(tmp_path):
    """After a restart of Redis the first call succeeds, although every idle connection is dead."""
    with EmbeddedRedis(tmp_path) as server:
        wire = Wire(connection_pool(server.url, 2_000))
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(lambda _: wire.call("PING"), range(20)))
        server.stop()
        server.start()

        assert wire.call("PING") == b"PONG"
        wire.close()


def test_a_server_that_is_gone(wire, proxy):
    """Without a server the error says that Redis does not answer."""
    proxy.close()

    with pytest.raises(RedisUnavailableError, match="does not answer"):
        wire.call("PING")


def test_a_server_that_knows_no_users():
    """A server that does not know how we log in says so, and repeats the password: nobody else does."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def refuse() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1_000)
                connection.sendall(b"-ERR unknown command 'AUTH', with args beginning with: 'me' 'pwSecr1' \r\n")

        threading.Thread(target=refuse, daemon=True).start()
        wire = Wire(connection_pool(f"redis://me:pwSecr1@127.0.0.1:{port}/0", 1_000))
        with pytest.raises(RedisUnavailableError, match="unknown command 'AUTH'") as refused:
            wire.call("PING")
    assert "pwSecr1" not in "".join(traceback.format_exception(refused.value))
    wire.close()


def test_scripts_that_the_server_forgot(wire):
    """A server that has lost its scripts gets them again, in single calls and in many."""
    step = script("get_or_lease_entry")
    calls = [((f"entry{n}", f"load{n}"), ("token", 5_000)) for n in range(3)]
    wire.call("FLUSHALL")
    assert [[b"load"]] * 3 == wire.run_many(step, calls)
    wire.call("SCRIPT", "FLUSH")

    assert wire.run(step, *calls[0]) == [b"wait"]
    wire.call("SCRIPT", "FLUSH")
    assert [[b"wait"]] * 3 == wire.run_many(step, calls)


def test_a_script_that_another_process_loads_in_between(wire, monkeypatch):
    """No step is carried out after a later one of its key, which was known already; the others all are."""
    step, exchange = script("claim_value"), wire.exchange
    keys = ["one", "other", "one", "two", "one", "two"]
    wire.call("FLUSHALL")
    wire.call("SCRIPT", "FLUSH")

    def with_another(commands):
        monkeypatch.undo()
        first, later = commands[:3], commands[3:]
        *answers, _ = exchange([*first, ("SCRIPT", "LOAD", step.source)])
        return [*answers, *exchange(later)]

    monkeypatch.setattr(wire, "exchange", with_another)
    answers, _ = wire.run_each(step, [((one,), (f"{turn}", turn)) for turn, one in enumerate(keys)])

    assert [0, 2] == [at for at, answer in enumerate(answers) if isinstance(answer, RedisUnavailableError)]
    assert [["4"], ["1"], ["3", "5"]] == [
        [one.decode() for one in wire.call("ZRANGE", key, 0, -1)] for key in ("one", "other", "two")
    ]


def test_a_look_of_which_the_server_forgot_the_script(wire, monkeypatch):
    """What comes after the steps is answered after them then too."""
    of = partition_keys(0)
    wire.call("FLUSHALL")
    wire.call("SCRIPT", "FLUSH")
    load = wire.call

    def changes(*command: object) -> object:
        load("SET", "key", "new")
        load("ZADD", of.pending, 1, "m")
        return load(*command)

    monkeypatch.setattr(wire, "call", changes)  # what happens while the script is on its way
    found = wire.look_before(script("find_unsettled"), [((of.pending, of.dead), ("m",))], [("GET", "key")])

    assert ([[b"1", None]], [b"new"]) == found


def test_an_error_of_one_command_leaves_the_others_alone(wire):
    """Of several commands in one round trip, one that fails does not disturb the answers of the others."""
    good, bad, last = wire.calls((("ECHO", "a"), ("NO-SUCH-COMMAND",), ("ECHO", "b")))

    assert (b"a", b"b") == (good, last)
    assert "unknown command" in str(bad)
    assert wire.call("ECHO", "c") == b"c"


def test_a_server_that_is_full(tmp_path):
    """A Redis without memory is unavailable for writes, as a command and in a script, and still answers reads."""
    with EmbeddedRedis(tmp_path) as server:
        wire = Wire(connection_pool(server.url, 2_000))
        wire.call("SET", "key", "value")
        wire.call("CONFIG", "SET", "maxmemory", "1")

        with pytest.raises(RedisFullError, match="no memory left"):
            wire.call("SET", "key", "another")
        with pytest.raises(RedisFullError, match="no memory left"):
            wire.run(script("add_heat"), ("hot", "heat", "warmed"), (10, "member", 1))
        [refused], size = wire.run_each(
            script("add_heat"), [(("hot", "heat", "warmed"), (10, "m", 1))], ("DBSIZE",)
        )
        assert (RedisFullError, 1) == (type(refused), size)
        assert wire.call("GET", "key") == b"value"
        wire.close()


def test_each_step_stands_for_itself(wire):
    """One that meets something of another type is answered by an error, and the others are carried out."""
    of = partition_keys(0)
    calls = [((of.entry(one), of.load(one)), ("token", 5_000)) for one in ("users/s:a", "users/s:b")]
    wire.call("FLUSHALL")
    wire.call("RPUSH", of.entry("users/s:a"), "garbage")

    (refused, leased), _ = wire.run_each(script("get_or_lease_entry"), calls)

    assert (MistypedKeyError, [b"load"]) == (type(refused), leased)
    assert [[b"load"], [b"wait"]] == wire.run_each(script("get_or_lease_entry"), calls)[0]


@contextmanager
def half_a_server(answer: bytes, then: Callable[[socket.socket], None]) -> Iterator[int]:
    """The port of a server that answers PING, and anything else with a part of an answer."""
    over = threading.Event()

    def serve(client: socket.socket) -> None:
        with client:
            while data := client.recv(1 << 16):
                if b"PART" not in data:
                    client.sendall(b"+PONG\r\n" * data.count(b"*"))
                    continue
                client.sendall(answer)
                then(client)
                over.wait(30)
                return

    def accept() -> None:
        while not over.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            over.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)


@pytest.mark.parametrize(
    "then", [lambda _: None, lambda one: one.shutdown(socket.SHUT_RDWR)], ids=["hangs", "ends"]
)
@pytest.mark.parametrize("part", [b"", b"$40000\r\n", b"$40000\r\n" + b"x" * 20_000, b"*2\r\n$1\r\na\r\n"])
def test_an_answer_that_ends_in_the_middle(way_to, part, then):
    """A part of an answer is none: the call fails in time, and what comes next is not taken for the rest."""
    with half_a_server(part, then) as port, way_to("redis", port) as way:
        wire = Wire(connection_pool(way.url, TIMEOUT_MS))
        assert wire.call("PING") == b"PONG"
        began = time.monotonic()
        with pytest.raises(RedisUnavailableError):
            wire.call("PART")
        assert time.monotonic() - began < 10 * TIMEOUT_MS / 1000 * slowness()
        assert wait_until(lambda: wire.call("PING") == b"PONG", "an answer")
        wire.close()


def test_answers_of_each_size(way):
    """Small and large questions and answers are whole, alone and several at once."""
    wire = Wire(connection_pool(way.url, 20_000))
    some = [bytes([65 + at]) * size for at, size in enumerate(SIZES)]
    for one in some:
        assert one == wire.call("ECHO", one)
    assert some[:-1] * 3 == wire.calls([("ECHO", one) for one in some[:-1] * 3])
    assert 1 == len(wire._idle)
    wire.close()


def test_a_connection_that_was_cut_is_not_used(wire, proxy):
    """A call after a pause in which its connection was cut succeeds on another one."""
    wire.call("PING")
    proxy.cut()
    idle_since = wire._idle[0][1]
    wait_until(lambda: time.monotonic() > idle_since + 2 * CERTAIN_S, "a pause")

    assert wire.call("ECHO", "a") == b"a"


def test_a_connection_is_kept_after_a_pause(wire):
    """A pause makes no connection suspect: what TLS sends of its own accord was read with the first answer."""
    wire.call("PING")
    for _ in range(3):
        (connection, idle_since) = wire._idle[0]
        wait_until(lambda since=idle_since: time.monotonic() > since + 2 * CERTAIN_S, "a pause")
        wire.call("PING")
        assert connection is wire._idle[0][0]


def test_a_call_that_a_signal_interrupts(wire):
    """An exception out of a signal handler comes through, and no later call gets the answer that was due."""

    def interrupt(*_: object) -> None:
        raise InterruptedByTestError

    wire.call("PING")
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        signal.setitimer(signal.ITIMER_REAL, TIMEOUT_MS / 3000)
        with pytest.raises(InterruptedByTestError):
            wire.call("BLPOP", "nothing", TIMEOUT_MS / 2000)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert [] == list(wire._idle)
    assert [f"{n}".encode() for n in range(50)] == [wire.call("ECHO", n) for n in range(50)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # closing is interrupted too
def test_a_call_that_is_interrupted_anywhere(wire):
    """Whatever line an exception comes at: the next call gets its own answer."""

    def tracer(line: int) -> Callable[[FrameType, str, Any], Any]:
        left = line

        def trace(frame: FrameType, event: str, _: Any) -> Any:
            nonlocal left
            if event == "line":
                left -= 1
                if left < 0:
                    sys.settrace(None)
                    raise InterruptedByTestError
            return trace

        return trace

    def interrupted_at(line: int) -> bool:
        before = sys.gettrace()
        sys.settrace(tracer(line))
        try:
            wire.call("ECHO", f"interrupted at {line}")
        except InterruptedByTestError:
            return True
        finally:
            sys.settrace(before)
        return False

    line = 0
    while True:
        wire.call("PING")
        interrupted = interrupted_at(line)
        assert [b"a", b"b"] == [wire.call("ECHO", one) for one in "ab"], line
        if not interrupted:
            break
        line += 1
    assert line > 20


@pytest.mark.parametrize(
    "option",
    ["socket_timeout=60", "protocol=3", "decode_responses=1", "retry_on_timeout=1", "retry_on_error=OSError"],
)
def test_an_url_takes_nothing_back(valkey, option):
    """What the wire relies on holds whatever the URL of the server says: limits, no retries, and bytes."""
    with Proxy(valkey.port) as proxy:
        wire = Wire(connection_pool(f"redis://127.0.0.1:{proxy.port}/0?{option}", TIMEOUT_MS))
        assert b"a" == wire.call("ECHO", "a")
        proxy.hang()
        began = time.monotonic()
        with pytest.raises(RedisUnavailableError):
            wire.call("PING")
        assert time.monotonic() - began < 10 * TIMEOUT_MS / 1000 * slowness()
        wire.close()


def test_a_unix_socket(valkey, tmp_path):
    """A server is reached by a socket in the file system too; one that nobody listens on does not answer."""
    path = tmp_path / "redis"

    def pass_on(client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", valkey.port)) as server:
            while data := client.recv(1 << 16):
                server.sendall(data)
                client.sendall(server.recv(1 << 16))

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        wire = Wire(connection_pool(f"unix://{path}?db=3", TIMEOUT_MS))
        with pytest.raises(RedisUnavailableError):
            wire.call("PING")
        listener.listen()
        with ThreadPoolExecutor(1) as thread:
            thread.submit(lambda: pass_on(listener.accept()[0]))
            assert wait_until(lambda: wire.call("ECHO", "a") == b"a", "an answer")
            assert b"db=3" in wire.call("CLIENT", "INFO")
            wire.close()


class GreenSocket(socket.socket):
    """One that does not block in the kernel, whatever its time limit: as gevent's."""

    limit_s: float | None = None

    def settimeout(self, value: float | None) -> None:
        self.limit_s = value
        self.setblocking(False)


def test_who_bounds_a_wait():
    """The kernel does for sockets that block in it, and Python for all others."""
    with socket.socket() as plain, GreenSocket() as green:
        limit_waits(plain, 500)
        limit_waits(green, 500)
        assert (None, 0.5) == (plain.gettimeout(), green.limit_s)
        limit = plain.getsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.calcsize("ll"))
        assert (
            0.4 < sum(part / scale for part, scale in zip(struct.unpack("ll", limit), (1, 1e6), strict=True)) < 0.6
        )


@pytest.mark.parametrize("commands", [[("GET", "large")], [("PING",), ("MGET", "none", "large")]])
def test_a_connection_keeps_no_room_for_a_large_answer(wire, commands):
    """Each connection would come to have it, as any of them may read the next large document."""
    wire.call("SET", "large", b"x" * (MOST_BUFFERED + 1))
    before = wire.call("CLIENT", "ID")
    assert before == wire.call("CLIENT", "ID")

    wire.calls(commands)

    assert before != wire.call("CLIENT", "ID")
