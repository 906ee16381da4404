"""What does not survive a fork: whoever makes it begins anew in a child, or has a reason not to."""

from __future__ import annotations

import ast
import ctypes
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from writebehind import forks

ROOT = Path(__file__).parents[2]
PACKAGES = ("writebehind", "web", "tasks")
#: What belongs to one process: names of what is called to make it.
UNSAFE = {
    *(
        "Lock",
        "RLock",
        "Condition",
        "Semaphore",
        "BoundedSemaphore",
        "Barrier",
        "Event",
        "local",
        "Thread",
        "Timer",
    ),
    *("Queue", "SimpleQueue", "LifoQueue", "PriorityQueue", "ThreadPoolExecutor", "ProcessPoolExecutor"),
    *(
        "socket",
        "socketpair",
        "create_server",
        "create_connection",
        "selectors",
        "DefaultSelector",
        "new_event_loop",
    ),
    *("MongoClient", "mongo_client", "Redis", "from_url", "Random", "SystemRandom", "Popen", "getpid", "mkstemp"),
}
#: Objects that are made by a process that forks nothing after it: commands, and servers after their fork.
NEVER_SHARED = {
    "writebehind/local/supervisor.py": "`up` starts its processes as programs of their own",
    "writebehind/local/up.py": "and the thread that looks whether the API answers is its own",
    "writebehind/local/output.py": "the output of `up`",
    "writebehind/demo/client.py": "the demo's clients are threads of one process",
    "writebehind/demo/run.py": "and so is what ends them",
    "writebehind/mongodb/waiting.py": "places of the threads that granian calls the application in",
    "web/threads.py": "granian calls for the application in the process that serves",
    "web/access_log.py": "and so is the log of what it serves",
    "writebehind/monitoring/watchers.py": "the exporter forks nothing",
    "writebehind/history/slow_figures.py": "and what it asks in the background",
    "writebehind/logs/setup.py": "the line that a thread has begun; a child has one thread",
    "writebehind/redis/topology/lookout.py": "that a thread looks, which forks nothing meanwhile",
    "writebehind/redis/topology/named.py": "and that one meets another primary",
    "writebehind/celery/work.py": "the main process of a worker looks; children of its pool never ask",
    "writebehind/forks.py": "sees to the others",
}


def made(tree: ast.AST) -> Iterator[str]:
    """What is called in a piece of code that makes what is unsafe."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if name in UNSAFE:
                yield name


def kept(tree: ast.AST) -> Iterator[str]:
    """What of that stays: in an attribute, a module's or a class's variable, or a default of one."""
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=targets, value=value):
                stays = any(not isinstance(target, ast.Name) for target in targets)
            case ast.AnnAssign(target=target, value=ast.AST() as value):
                stays = not isinstance(target, ast.Name)
            case _:
                continue
        if stays:
            yield from made(value)


def of_module(tree: ast.Module) -> Iterator[str]:
    """What a module makes when it is imported, and what its objects make for themselves and do not make anew."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            if not any(isinstance(one, ast.FunctionDef) and one.name == "begin_anew" for one in node.body):
                yield from (f"{node.name}: {name}" for name in kept(node))
            variables = [one for one in node.body if isinstance(one, ast.Assign | ast.AnnAssign)]
            yield from (f"{node.name}: {name}" for one in variables for name in made(one))
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from (f"the module: {name}" for name in made(node))


def test_whatever_belongs_to_one_process_begins_anew_in_another():
    """No object or module keeps locks, threads, sockets, clients or random generators over a fork."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = str(path.relative_to(ROOT))
            if one := list(of_module(ast.parse(path.read_text()))):
                found[name] = one

    assert {} == {name: one for name, one in found.items() if name not in NEVER_SHARED}
    assert NEVER_SHARED.keys() <= found.keys()  # no reason is left without its case


def test_it_is_found():
    """Each way to keep what is unsafe is seen, and what lives as long as one call is not."""
    code = """
lock = threading.Lock()
class A:
    shared = Queue()
    def __init__(self):
        self.all = [threading.Lock() for _ in range(3)]
        self.client: MongoClient = MongoClient("…")
        thread = threading.Thread()
class B:
    def begin_anew(self):
        self.wake = threading.Condition()
"""
    expected = ["the module: Lock", "A: Lock", "A: MongoClient", "A: Queue"]
    assert expected == list(of_module(ast.parse(code)))


def test_a_lock_that_a_thread_was_just_given():
    """Nobody holds a lock in a child, also where a thread has got it and has not had the interpreter since."""
    lock = forks.lock()
    lock.acquire()
    waits = threading.Thread(target=lock.acquire)
    before = sys.getswitchinterval()
    waits.start()
    time.sleep(0.05)  # it waits in the lock, without the interpreter
    sys.setswitchinterval(10)
    try:
        lock.release()
        until = time.monotonic() + 0.05
        while time.monotonic() < until:  # the thread gets the lock, and not the interpreter
            pass
        child = os.fork()  # and nothing before it that lets others have the interpreter
        if not child:
            os._exit(0 if lock.acquire(timeout=1) else 1)
    finally:
        sys.setswitchinterval(before)
    waits.join()

    assert os.waitpid(child, 0)[1] == 0, "it is held for ever"
    assert not lock.acquire(blocking=False), "the parent's is as it was"


def test_a_lock_of_the_thread_that_finds_out_that_it_is_in_a_child():
    """Python was not told of the fork: what it has it keeps, or it could not let go of it, and others are free."""
    lock, of_another = forks.lock(), forks.lock()
    held, over = threading.Event(), threading.Event()

    def hold() -> None:
        with of_another:
            held.set()
            over.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    assert held.wait(60)
    child = ctypes.PyDLL(None).fork()
    if not child:
        try:
            with lock:
                forks.begin_anew(is_told=False)
                is_kept = lock._is_owned()
            os._exit(0 if is_kept and of_another.acquire(blocking=False) else 1)
        finally:
            os._exit(2)
    over.set()
    holder.join()

    assert os.waitpid(child, 0)[1] == 0
