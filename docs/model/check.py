"""Check the model of the protocol, and that the checker refutes each way of breaking it: `make model`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

PROTOCOL_MODEL, UNIQUE_MODEL, RECEIPTS_MODEL = "protocol.pml", "unique.pml", "receipts.pml"
#: Where spin is unpacked to when the machine has none.
CACHE = Path(sys.prefix) / "spin"
#: Bounds of one search. A search that reaches one of them has not seen everything, and counts as failed.
MOST_STEPS, MOST_MEGABYTES = 10_000, 12_000

HOLDS = ""
CONVERGES = r"assertion violated \(+dead\["
NEVER_OLDER = r"assertion violated \(mongo"
ANSWERS_AS_OF = r"assertion violated \(+(?:0\|\|\(+)?last\[d\]!=then"
READS_FRESH = r"assertion violated \(+(?:0\|\|\(+)?kind\[d\]==1"
NOT_EVICTED = r"assertion violated \(kind\[i\]!=0\)"
NEVER_GIVEN_UP = r"assertion violated \(+last\[\w\]!=version"
LETTERS_STAY = r"assertion violated \(+kept\["
NO_LETTER = r"assertion violated \(+given_up\["
BURIED_RIGHTLY = r"assertion violated shares"
COUNTS_ONCE = r"assertion violated \(+redis\.counted\[\w+\]==1"
ORDERED = r"assertion violated \(+mongo\[\d\]==version"
NO_WAKE_UP_LOST = "invalid end state"


@dataclass(frozen=True, slots=True)
class Run:
    """One search: what it is about, the macros that set it up, what the checker must say, and of which model."""

    about: str
    macros: str
    expected: str = HOLDS
    model: str = PROTOCOL_MODEL


#: The protocol as it is.
PROTOCOL = (
    # The longest first, so that no processor idles at the end.
    Run("three writes, and any two faults", "-DFAULTS=2 -DMORE_WRITES=1"),
    Run("four writes, and any one fault", "-DFAULTS=1"),
    Run("three writes, a reader, and any one fault", "-DFAULTS=1 -DREADS=1 -DMORE_WRITES=1"),
    Run("two writes, a reader, and any two faults", "-DFAULTS=2 -DREADS=1 -DWRITES=2 -DMORE_WRITES=0"),
    Run("Redis has lost a write, three more, and any one fault", "-DLOST -DFAULTS=1 -DMORE_WRITES=1"),
    Run("a foreign version, three writes, and any one fault", "-DFOREIGN -DFAULTS=1 -DMORE_WRITES=1"),
    Run(
        "a foreign version, two writes, a reader, and any one fault",
        "-DFOREIGN -DFAULTS=1 -DREADS=1 -DMORE_WRITES=0",
    ),
    Run(
        "a failover that loses writes, and two writes, and any one fault",
        "-DFAILOVER -DFAULTS=1 -DWRITES=1 -DMORE_WRITES=1",
    ),
    Run("a failover that loses writes, and three writes", "-DFAILOVER -DMORE_WRITES=1"),
    Run(
        "a failover that loses writes, two writes, and a reader", "-DFAILOVER -DREADS=1 -DWRITES=1 -DMORE_WRITES=1"
    ),
    Run(
        "a failover that loses writes, two writes, and what was lost is committed again",
        "-DFAILOVER -DRECOMMIT -DWRITES=1 -DMORE_WRITES=1",
    ),
    Run(
        "a failover that loses writes to one document, any one fault, and what was lost is committed again",
        "-DFAILOVER -DRECOMMIT -DALONE=true -DFAULTS=1 -DWRITES=1 -DMORE_WRITES=1",
    ),
    Run(
        "a failover that loses writes to one document, a reader, and what was lost is committed again",
        "-DFAILOVER -DRECOMMIT -DALONE=true -DREADS=1 -DWRITES=1 -DMORE_WRITES=1",
    ),
    Run("nothing goes wrong: no wake-up is lost", ""),
    Run("nothing goes wrong, with a reader", "-DREADS=1 -DMORE_WRITES=1"),
    Run("unique values: two writes", "", model=UNIQUE_MODEL),
    Run("unique values: two writes, and a crash", "-DFAULTS=1", model=UNIQUE_MODEL),
    Run("keys: increments that are repeated, two are lost", "-DFAULTS=2", model=RECEIPTS_MODEL),
    Run("keys: the same, one is lost, and a failover", "-DFAILOVER -DFAULTS=1", model=RECEIPTS_MODEL),
)
#: The protocol broken on purpose, and the property that must be seen to fail.
BROKEN = (
    Run("settle by member alone", "-DSETTLE_BY_MEMBER", CONVERGES),
    Run("no version guard in MongoDB", "-DNO_VERSION_GUARD -DFAULTS=1", NEVER_OLDER),
    Run("release without another look", "-DRELEASE_WITHOUT_LOOK", NO_WAKE_UP_LOST),
    Run("nothing due, and released in another step", "-DRELEASE_IN_TWO_STEPS", NO_WAKE_UP_LOST),
    Run("bury without a look at the version", "-DBURY_WITHOUT_VERSION -DFAULTS=1", CONVERGES),
    Run("fill without the token", "-DFILL_WITHOUT_TOKEN -DFAULTS=1 -DREADS=1 -DMORE_WRITES=1", READS_FRESH),
    Run(
        "fill without a look at deletions",
        "-DFILL_WITHOUT_DELETIONS -DFAULTS=2 -DREADS=1 -DWRITES=2 -DMORE_WRITES=0",
        READS_FRESH,
    ),
    Run(
        "answer without a look at deletions",
        "-DANSWER_WITHOUT_DELETIONS -DFAULTS=2 -DREADS=1 -DWRITES=2 -DMORE_WRITES=0",
        ANSWERS_AS_OF,
    ),
    Run(
        "answer what was deleted before, by what is remembered after",
        "-DANSWER_WITHOUT_MEMORY -DFAULTS=2 -DREADS=1 -DWRITES=2 -DMORE_WRITES=0",
        ANSWERS_AS_OF,
    ),
    Run("no audit of deletions", "-DNO_AUDIT -DFAULTS=1", CONVERGES),
    Run("a TTL on what is pending", "-DTTL_ON_PENDING -DFAULTS=1", NOT_EVICTED),
    Run("commit beside the entry", "-DCOMMIT_BESIDE_ENTRY -DFOREIGN -DFAULTS=1 -DMORE_WRITES=0", CONVERGES),
    Run("commit beside a deletion", "-DCOMMIT_BESIDE_DELETION -DFOREIGN -DFAULTS=1 -DMORE_WRITES=0", CONVERGES),
    Run("settle beside a deletion", "-DSETTLE_BESIDE_DELETION -DFOREIGN -DFAULTS=1 -DMORE_WRITES=1", CONVERGES),
    Run("what is superseded is always given up", "-DOUTDO_NEVER -DFOREIGN -DMORE_WRITES=0", NEVER_GIVEN_UP),
    Run("what is superseded is never given up", "-DOUTDO_ALWAYS -DLOST -DFAULTS=1 -DMORE_WRITES=0", CONVERGES),
    Run("a commit clears kept letters", "-DCOMMIT_CLEARS_KEPT -DLOST -DFAULTS=1 -DMORE_WRITES=0", LETTERS_STAY),
    Run("letters for what was written over", "-DLETTER_IN_LAPSE -DFAILOVER -DWRITES=1 -DMORE_WRITES=1", NO_LETTER),
    Run("no leap after a failover", "-DFAILOVER -DLEAP=0 -DMORE_WRITES=1", CONVERGES),
    Run(
        "recommit over what is newer",
        "-DFAILOVER -DRECOMMIT -DRECOMMIT_OVER_NEWER -DWRITES=1 -DMORE_WRITES=1",
        CONVERGES,
    ),
    Run(
        "recommit over a deletion",
        "-DFAILOVER -DRECOMMIT -DRECOMMIT_OVER_DELETION -DFAULTS=1 -DWRITES=1 -DMORE_WRITES=1",
        f"{CONVERGES}|{NO_LETTER}",
    ),
    Run(
        "recommit when deletions are forgotten",
        "-DFAILOVER -DRECOMMIT -DRECOMMIT_LATE -DWRITES=1 -DMORE_WRITES=1",
        CONVERGES,
    ),
    Run(
        "recommit without a look at MongoDB",
        "-DFAILOVER -DRECOMMIT -DRECOMMIT_UNSEEN -DALONE=true -DFAULTS=1 -DWRITES=1 -DMORE_WRITES=1",
        NO_LETTER,
    ),
    Run(
        "recommit after a look at MongoDB, without the right to load",
        "-DFAILOVER -DRECOMMIT -DRECOMMIT_WITHOUT_RIGHT -DALONE=true -DFAULTS=1 -DWRITES=1 -DMORE_WRITES=1",
        NO_LETTER,
    ),
    Run("unique: buried at once", "-DNO_ORDER", BURIED_RIGHTLY, UNIQUE_MODEL),
    Run("unique: nobody makes room", "-DNO_VACATION", ORDERED, UNIQUE_MODEL),
    Run("unique: letters are not replayed", "-DNO_REPLAY", ORDERED, UNIQUE_MODEL),
    Run("unique: a burial replays nobody", "-DBURY_WITHOUT_REPLAY", ORDERED, UNIQUE_MODEL),
    Run("unique: no look after the burial", "-DAWAIT_WITHOUT_LOOK", ORDERED, UNIQUE_MODEL),
    Run("unique: buried before it is noted", "-DBURY_BEFORE_AWAIT -DFAULTS=1", ORDERED, UNIQUE_MODEL),
    Run("unique: forgotten at the replay", "-DFORGET_AT_REPLAY -DFAULTS=1", ORDERED, UNIQUE_MODEL),
    Run("unique: no sweep", "-DNO_SWEEP -DFAULTS=1", ORDERED, UNIQUE_MODEL),
    Run("keys: no receipts", "-DNO_RECEIPT", COUNTS_ONCE, RECEIPTS_MODEL),
    Run("keys: the receipt in a step before", "-DRECEIPT_FIRST", COUNTS_ONCE, RECEIPTS_MODEL),
    Run("keys: the receipt in a step after", "-DRECEIPT_AFTER", COUNTS_ONCE, RECEIPTS_MODEL),
    Run("keys: looked for in a step before", "-DLOOK_BEFORE", COUNTS_ONCE, RECEIPTS_MODEL),
    Run("keys: receipts elsewhere", "-DFAILOVER -DRECEIPTS_ELSEWHERE -DFAULTS=1", COUNTS_ONCE, RECEIPTS_MODEL),
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the checker said."""

    run: Run
    said: str
    complete: bool
    states: int
    seconds: float

    @property
    def as_expected(self) -> bool:
        """Whether the protocol holds in every reachable state, or the broken one fails as it should."""
        if self.run.expected == HOLDS:
            return not self.said and self.complete
        return re.search(self.run.expected, self.said) is not None


def main() -> None:
    """Check everything; the exit status is 0 if all is as expected."""
    console = Console()
    began = time.monotonic()
    spin = find_spin()
    compiler = shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        sys.exit("make model needs a C compiler: install gcc, as with `apt-get install gcc libc6-dev`")
    runs = [*PROTOCOL, *BROKEN]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        started = [threads.submit(check, run, spin, compiler) for run in runs]
        outcomes = [
            one.result() for one in track(started, "checking", console=Console(stderr=True), transient=True)
        ]
    table = Table("", "the model", "must", "seen", "states", "seconds")
    for one in outcomes:
        table.add_row(
            "[green]ok[/]" if one.as_expected else "[bold red]wrong[/]",
            one.run.about,
            "hold" if one.run.expected == HOLDS else "fail",
            (one.said or ("no error" if one.complete else "search not complete"))[:60].replace("[", "\\["),
            f"{one.states:,}",
            f"{one.seconds:.1f}",
        )
    console.print(table)
    wrong = sum(not one.as_expected for one in outcomes)
    console.print(f"{len(outcomes) - wrong} as expected, {wrong} not, in {time.monotonic() - began:.0f} s")
    sys.exit(1 if wrong else 0)


def check(run: Run, spin: str, compiler: str) -> Outcome:
    """Search every reachable state of one run, up to the first error."""
    with tempfile.TemporaryDirectory(prefix="model-") as directory:

        def call(*command: str) -> str:
            done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)  # noqa: S603
            return done.stdout + done.stderr

        shutil.copy(Path(__file__).with_name(run.model), directory)
        generated = call(spin, *run.macros.split(), "-a", run.model)
        if not Path(directory, "pan.c").is_file():
            sys.exit(f"spin: {generated}")
        built = call(compiler, "-O3", "-w", "-DSAFETY", f"-DMEMLIM={MOST_MEGABYTES}", "-o", "pan", "pan.c")
        if not Path(directory, "pan").is_file():
            sys.exit(f"{compiler}: {built}")
        report = call("./pan", f"-m{MOST_STEPS}", "-w23")
    error = re.search(r"^pan:\d+: (.*)$", report, re.MULTILINE)
    states = re.search(r"^\s*([\d.e+]+) states, stored", report, re.MULTILINE)
    seconds = re.search(r"elapsed time ([\d.]+) seconds", report)
    cut_short = re.search("max search depth too small|out of memory|reached -DMEMLIM|Search not completed", report)
    return Outcome(
        run,
        error[1] if error else "",
        complete=states is not None and not cut_short,
        states=int(float(states[1])) if states else 0,
        seconds=float(seconds[1]) if seconds else 0.0,
    )


def find_spin() -> str:
    """Spin as installed, or unpacked from Debian's package, which needs no privileges."""
    unpacked = CACHE / "usr" / "bin" / "spin"
    if found := shutil.which("spin"):
        return found
    if not unpacked.is_file():
        CACHE.mkdir(exist_ok=True)
        try:
            subprocess.run(["apt-get", "download", "spin"], cwd=CACHE, check=True, capture_output=True)  # noqa: S607
            package = next(CACHE.glob("spin_*.deb"))
            subprocess.run(["dpkg", "-x", package.name, "."], cwd=CACHE, check=True, capture_output=True)  # noqa: S603, S607
        except (OSError, subprocess.CalledProcessError, StopIteration):
            sys.exit("make model needs the model checker spin: install it, as with `apt-get install spin`")
    return str(unpacked)


if __name__ == "__main__":
    main()
