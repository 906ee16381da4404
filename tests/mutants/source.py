"""Where mutants come from: a list of breaks, and the operators of Cosmic Ray."""

from __future__ import annotations

import ast
import random
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIST = Path(__file__).with_name("breaks.toml")
#: Of the operators of Cosmic Ray, those whose mutants are mistakes that people make.
OPERATORS = (
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceUnaryOperator_Delete_Not", "ReplaceBreakWithContinue", "ReplaceContinueWithBreak"),
    *("ZeroIterationForLoop", "NumberReplacer"),
    *(f"ReplaceComparisonOperator_{one}" for one in ("Is_IsNot", "IsNot_Is")),
    *(
        f"ReplaceComparisonOperator_{one}"
        for one in ("Eq_NotEq", "NotEq_Eq", "Lt_LtE", "LtE_Lt", "Gt_GtE", "GtE_Gt")
    ),
    *(f"ReplaceBinaryOperator_{one}" for one in ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "BitOr_BitAnd")),
)
#: Lines that begin like this declare something: a mistake there is not one of logic.
DECLARING = ("@", "def ", "class ", "import ", "from ")
#: Many mutants of one line are the same mistake.
MOST_OF_A_LINE = 2


class RottenError(Exception):
    """A break is not about the source any more: its text is gone, or there more than once."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """A file with one mistake in it.

    Attributes:
        file: its path from the root of the project.
        source: the whole file, with the mistake.
        old: what stood there; `new` what stands there instead.
        why: what would be wrong, where somebody has said so.
        harmless: why no test can notice it, or need not; '' where a test must.
        tests: the files of tests that are run against it.
        lines: where the mistaken statement of Python stands in the file without it; none of Lua.
    """

    file: str
    source: str
    old: str
    new: str
    tests: tuple[str, ...]
    why: str = ""
    harmless: str = ""
    lines: tuple[int, ...] = ()


def listed(*only: str) -> list[Mutant]:
    """The breaks of the list, of files with one of `only` in their path, or of all.

    Raises:
        RottenError: a text is not there exactly once.
    """
    found = []
    for file, of in _files(*only):
        source = (ROOT / file).read_text("utf-8")
        for one in of.get("breaks", ()):
            old, new = one["old"], one["new"]
            if source.count(old) != 1:
                raise RottenError(f"{file} has this text {source.count(old)} times, and not once: {old}")
            tests = tuple(one.get("tests", of["tests"]))
            mutated = source.replace(old, new)
            lines = statement(source, mutated) if file.endswith(".py") else ()
            found.append(Mutant(file, mutated, old, new, tests, one["why"], one.get("harmless", ""), lines))
    return found


def sampled(count: int, seed: int, *only: str) -> list[Mutant]:
    """Of each Python module of the list that is to be sampled, `count` mutants as Cosmic Ray makes them.

    Raises:
        RottenError: the list explains what is not a line of the module any more.
    """
    found: list[Mutant] = []
    for file, of in _files(*only):
        if not of.get("sampled"):
            continue
        source = (ROOT / file).read_text("utf-8")
        found += islice(_every(file, source, of, random.Random(f"{seed} {file}")), count)
    return found


def explained() -> Iterator[tuple[str, str]]:
    """Of mutants that need not be noticed: the file, and the line that stood there."""
    for file, of in _files():
        for one in of.get("explained", ()):
            yield file, one["old"]


def _files(*only: str) -> list[tuple[str, dict]]:
    files = tomllib.loads(LIST.read_text("utf-8"))["files"]
    return [(file, of) for file, of in files.items() if not only or any(one in file for one in only)]


def _every(file: str, source: str, of: dict, chance: random.Random) -> Iterator[Mutant]:
    """The mutants of a module, in any order; of one line, only a few."""
    from cosmic_ray.ast import ast_nodes, get_ast  # noqa: PLC0415 - is there only where mutants are made
    from cosmic_ray.mutating import mutate_code  # noqa: PLC0415
    from cosmic_ray.plugins import get_operator  # noqa: PLC0415

    nodes, lines, typed = list(ast_nodes(get_ast(source))), source.splitlines(), _typed(source)
    places = [
        (line, name, at)
        for name in OPERATORS
        for at, ((line, column), _) in enumerate(
            place for node in nodes for place in get_operator(f"core/{name}")().mutation_positions(node)
        )
        if (line, column) not in typed
        and not lines[line - 1].lstrip().startswith(DECLARING)
        and not lines[line - 1].startswith("*,", column)
        and not lines[line - 1][0].isupper()  # a constant of the module: a number that was chosen
    ]
    chance.shuffle(places)
    harmless = {(one["old"], one["new"]): one["harmless"] for one in of.get("explained", ())}
    of_line: Counter[int] = Counter()
    for line, name, at in places:
        if of_line[line] == MOST_OF_A_LINE:
            continue
        mutated = mutate_code(source, get_operator(f"core/{name}")(), at)
        if mutated is None or not _compiles(mutated):
            continue
        of_line[line] += 1
        old, new = _differ(source, mutated)
        why, lines = harmless.get((old, new), ""), statement(source, mutated)
        yield Mutant(file, mutated, old, new, tuple(of["tests"]), name, why, lines)


def _typed(source: str) -> set[tuple[int, int]]:
    """The places of annotations, which nobody evaluates."""
    places: set[tuple[int, int]] = set()
    for node in ast.walk(ast.parse(source)):
        for one in (getattr(node, "annotation", None), getattr(node, "returns", None)):
            if one is not None:
                places |= {(one.lineno, column) for column in range(one.col_offset, one.end_col_offset)}
    return places


def _compiles(source: str) -> bool:
    try:
        compile(source, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def _differ(source: str, mutated: str) -> tuple[str, str]:
    """The first line that differs, as it was and as it is."""
    pairs = zip(source.splitlines(), mutated.splitlines(), strict=False)
    old, new = next(pair for pair in pairs if pair[0] != pair[1])
    return old.strip(), new.strip()


def statement(source: str, mutated: str) -> tuple[int, ...]:
    """The lines of the statement that differs; of one with a body, without that."""
    pairs = zip(source.splitlines(), mutated.splitlines(), strict=False)
    line = next(at for at, pair in enumerate(pairs, 1) if pair[0] != pair[1])
    ranges = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            ranges.append(
                range(node.lineno, max(node.lineno, body[0].lineno - 1) + 1 if body else node.end_lineno + 1)
            )
    return tuple(min((one for one in ranges if line in one), key=len))
