"""The library for `asyncio`: the same collections, whose methods are awaited.

async with aconnect() as pipeline:
    users = pipeline.collection("users")
    await users.put("ada", {"name": "Ada"})

Each call runs in a thread of a small pool, as docs/adr/0031-asyncio-by-threads.md explains. A cancelled read is
abandoned. A cancelled write that has begun is waited for, so that what follows comes after it, and what came of it
is logged.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from functools import partial, wraps
from itertools import islice
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, Self, TypeVar

from writebehind import forks, strict
from writebehind.collection import Collection
from writebehind.documents.ids import DocumentId
from writebehind.documents.patches import Document
from writebehind.errors import InvalidArgumentError, PipelineClosedError
from writebehind.hooks import Hooks
from writebehind.pipeline import Pipeline, connect
from writebehind.querying.listing import DEFAULT_LIMIT
from writebehind.redis.cache import RefreshSink
from writebehind.redis.pending import HintSink
from writebehind.settings.collection import CollectionSettings
from writebehind.settings.installation import Settings

log = logging.getLogger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

#: Threads of one pipeline. More do not make it faster: they wait for Redis and for each other.
THREADS = 16
#: Documents that `get_each` reads in one go.
AT_ONCE = 32
#: What of a result stands in the log where nobody waits for it.
SHOWN_CHARACTERS = 300


def aconnect(
    settings: Settings | None = None,
    *,
    hints: HintSink | None = None,
    refreshes: RefreshSink | None = None,
    hooks: Mapping[str, Hooks] | None = None,
    threads: int = THREADS,
) -> AsyncPipeline:
    """Build a pipeline for `asyncio`. Nothing is connected until it is used. For use in `async with`.

    Args:
        settings: as for `connect`, and so are `hints`, `refreshes` and `hooks`, which are called in threads.
        hints: see there.
        refreshes: see there.
        hooks: see there.
        threads: calls that run at the same time, at most; others wait for their turn.

    Raises:
        ConfigurationError: as `connect`.
        InvalidArgumentError: an argument is none of these.
    """
    return AsyncPipeline(connect(settings, hints=hints, refreshes=refreshes, hooks=hooks), threads=threads)


class Calls:
    """Runs calls in threads, and knows what a cancelled one means. Safe to share between event loops."""

    def __init__(self, threads: int) -> None:
        """Have so many threads at most; they are started when they are needed."""
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise InvalidArgumentError(f"threads must be a number from 1 on, not {strict.shown(threads)}")
        self._threads = threads
        self._closed = False
        self.begin_anew()
        forks.begins_anew(self)

    def begin_anew(self) -> None:
        """Start threads of this process: a fork has none of its parent's."""
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="writebehind")

    async def read(self, call: Callable[[], R]) -> R:
        """The result of a call that changes nothing: where it is cancelled nobody waits for its end.

        Raises:
            PipelineClosedError: the pipeline is closed.
        """
        return await asyncio.wrap_future(self._submit(call))

    async def write(self, what: str, call: Callable[[], R]) -> R:
        """The result of a call that may have changed something, once it has ended, also where it is cancelled.

        Raises:
            PipelineClosedError: the pipeline is closed.
        """
        return await _to_its_end(what, self._submit(call))

    def close(self) -> None:
        """Take no more calls, and wait for those that there are: blocks until then."""
        self._closed = True
        self._pool.shutdown()

    def _submit(self, call: Callable[[], R]) -> Future[R]:
        try:
            return self._pool.submit(copy_context().run, call)
        except RuntimeError as error:
            if self._closed:
                raise PipelineClosedError from error
            raise


async def _to_its_end(what: str, running: Future[R]) -> R:
    """The result of a call, which goes on where it is cancelled after it has begun."""
    try:
        return await asyncio.wrap_future(running)  # which passes a cancellation on: it helps until a thread has it
    except asyncio.CancelledError as cancelled:
        if not running.cancelled():
            await _end_of(running)
            cancelled.add_note(_became(what, running))
        raise


async def _end_of(running: Future[Any]) -> None:
    """Wait for the end of a call, however often that is cancelled: it has time limits of its own."""
    loop = asyncio.get_running_loop()
    ended = loop.create_future()
    running.add_done_callback(lambda _: loop.call_soon_threadsafe(ended.set_result, None))
    while not ended.done():
        with suppress(asyncio.CancelledError):
            await asyncio.wait([ended])


def _became(what: str, running: Future[Any]) -> str:
    """The end of a call that nobody waits for any more, for the log and for whoever sees the cancellation."""
    error = running.exception()
    became = f"failed: {type(error).__name__}: {error}" if error is not None else f"succeeded: {running.result()}"
    told = f"the {what} was cancelled when it had begun, and {became}"[:SHOWN_CHARACTERS]
    log.warning("%s", told)
    return told


def _in_a_thread(call: Callable[[], None]) -> Future[None]:
    """Begin a call in a thread that is none of a pool's, so that it cannot be cancelled before it begins."""
    running: Future[None] = Future()
    running.set_running_or_notify_cancel()

    def run() -> None:
        try:
            call()
            running.set_result(None)
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            running.set_exception(error)

    threading.Thread(target=run, name="writebehind-close").start()
    return running


def _reading(
    method: Callable[Concatenate[Collection, P], R],
) -> Callable[Concatenate[AsyncCollection, P], Coroutine[Any, Any, R]]:
    """The same method, which is awaited."""

    @wraps(method)
    async def call(self: AsyncCollection, /, *args: P.args, **kwargs: P.kwargs) -> R:
        return await self._calls.read(partial(method, self.sync, *args, **kwargs))

    return call


def _writing(
    method: Callable[Concatenate[Collection, P], R],
) -> Callable[Concatenate[AsyncCollection, P], Coroutine[Any, Any, R]]:
    """The same method, which is awaited to its end whatever happens meanwhile."""

    @wraps(method)
    async def call(self: AsyncCollection, /, *args: P.args, **kwargs: P.kwargs) -> R:
        what = f"{method.__name__} of {self.name}"
        return await self._calls.write(what, partial(method, self.sync, *args, **kwargs))

    return call


class AsyncCollection:
    """Documents of one collection, for `asyncio`. Safe to share between tasks and event loops.

    Its methods are those of `Collection`, with the same arguments, results and errors.
    """

    def __init__(self, sync: Collection, calls: Calls) -> None:
        """Await what `sync` does."""
        #: The same collection for threads.
        self.sync = sync
        self._calls = calls

    @property
    def name(self) -> str:
        """The name of the collection."""
        return self.sync.name

    @property
    def settings(self) -> CollectionSettings:
        """The settings by which it is stored."""
        return self.sync.settings

    def id(self, given: object) -> DocumentId:
        """The document that a caller names. Raises as `Collection.id`."""
        return self.sync.id(given)

    get = _reading(Collection.get)
    mget = _reading(Collection.mget)
    exists = _reading(Collection.exists)
    read = _reading(Collection.read)
    read_many = _reading(Collection.read_many)
    look_up = _reading(Collection.look_up)
    query = _reading(Collection.query)
    read_query = _reading(Collection.read_query)
    page = _reading(Collection.page)

    put = _writing(Collection.put)
    create = _writing(Collection.create)
    patch = _writing(Collection.patch)
    update = _writing(Collection.update)
    increment = _writing(Collection.increment)
    delete = _writing(Collection.delete)
    bulk = _writing(Collection.bulk)

    def get_each(self, given: Iterable[object]) -> AsyncIterator[Document | None]:
        """As `Collection.get_each`, for `async for`: a few documents are read ahead."""
        return self._each(self.sync.get_each(given))

    def scan(self, *, limit: int = DEFAULT_LIMIT) -> AsyncIterator[Document]:
        """As `Collection.scan`, for `async for`: a few documents are read ahead."""
        return self._each(self.sync.scan(limit=limit))

    async def _each(self, documents: Iterator[R]) -> AsyncIterator[R]:
        while some := await self._calls.read(lambda: list(islice(documents, AT_ONCE))):
            for one in some:
                yield one


class AsyncPipeline:
    """A pipeline for `asyncio`. Safe to share between tasks and event loops, and to fork."""

    def __init__(self, sync: Pipeline, *, threads: int = THREADS) -> None:
        """Await what `sync` does, in so many threads at most.

        Raises:
            InvalidArgumentError: an argument is none of these.
        """
        strict.instance("sync", sync, Pipeline)
        #: The same pipeline for threads: what is not offered here can be called there.
        self.sync = sync
        self.settings = sync.settings
        self._calls = Calls(threads)

    def collection(self, name: str) -> AsyncCollection:
        """The documents of one collection. Raises as `Pipeline.collection`."""
        return AsyncCollection(self.sync.collection(name), self._calls)

    async def check(self) -> None:
        """See that Redis answers and is divided as the settings say. Raises as `Pipeline.check`."""
        await self._calls.read(self.sync.check)

    async def status(self, *, partitions: bool = False) -> dict[str, Any]:
        """The figures of `/admin/status`. Raises as `Pipeline.status`."""
        return await self._calls.read(partial(self.sync.status, partitions=partitions))

    async def run(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call something else of the pipeline, such as `sync.dead_letters.replay`, as if it were a write."""
        return await self._calls.write(getattr(call, "__name__", "a call"), partial(call, *args, **kwargs))

    async def close(self) -> None:
        """Wait for the calls that run, and close the connections. Later calls raise `PipelineClosedError`."""
        await _to_its_end("end of the pipeline", _in_a_thread(self._close))

    def _close(self) -> None:
        self._calls.close()
        self.sync.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()
