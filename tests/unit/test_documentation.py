"""Documentation that leads somewhere: links, headings and the navigation of the site."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import unquote

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(
    one
    for folder in (ROOT, ROOT / ".github", DOCS)
    for one in folder.glob("**/*.md" if folder == DOCS else "*.md")
)
#: What GitHub and myst leave out when they make an anchor of a heading.
NO_PART_OF_AN_ANCHOR = re.compile(r"[^\w\- ]")


@cache
def tokens(page: Path) -> list[Token]:
    """The page, taken apart."""
    return MarkdownIt("commonmark").enable("table").parse(page.read_text("utf-8"))


@cache
def anchors(page: Path) -> set[str]:
    """The names under which the headings of a page can be linked to."""
    found: Counter[str] = Counter()
    names = set()
    for opening, content in zip(tokens(page), tokens(page)[1:], strict=False):
        if opening.type == "heading_open":
            text = "".join(child.content for child in content.children or ())
            name = NO_PART_OF_AN_ANCHOR.sub("", text.lower()).replace(" ", "-")
            names.add(f"{name}-{found[name]}" if found[name] else name)
            found[name] += 1
    return names


def links(page: Path) -> Iterator[str]:
    """Each link of a page that leads into the repository."""
    for block in tokens(page):
        for child in block.children or ():
            target = child.attrs.get("href") or child.attrs.get("src")
            if target and not re.match(r"[a-z]+:", str(target)):
                yield str(target)


def broken(page: Path, link: str) -> str:
    """What is wrong with a link, or ''."""
    path, _, anchor = unquote(link).partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return f"{link}: there is no such file"
    if anchor and (target.suffix != ".md" or anchor not in anchors(target)):
        return f"{link}: there is no such heading"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(page):
    """Each relative link of a page leads to a file of the repository, and to a heading that it has."""
    assert [] == [wrong for link in links(page) if (wrong := broken(page, link))]


def test_a_broken_link_is_found(tmp_path):
    """A link to a file or a heading that does not exist is told, and one to a repeated heading is not."""
    page = tmp_path / "page.md"
    page.write_text(
        "# A `b` & c\n\n## A\n\n## A\n\n[1](#a-b--c) [2](#a-1) [3](#a-2) [4](page.md#b) [5](none.md)\n"
    )
    assert [
        "#a-2: there is no such heading",
        "page.md#b: there is no such heading",
        "none.md: there is no such file",
    ] == [wrong for link in links(page) if (wrong := broken(page, link))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_ask_nothing(page):
    """A command of a page runs without a terminal: one that would ask says that it need not."""
    lines = [line for block in tokens(page) if block.type == "fence" for line in block.content.splitlines()]
    assert [] == [
        line for line in lines if re.search(r"dead-letters discard (?!--help)", line) and "--yes" not in line
    ]


def navigation(page: Path) -> Iterator[Path]:
    """The pages that can be reached from one through its tables of contents."""
    yield page
    for block in tokens(page):
        if block.type == "fence" and block.info.strip() == "{toctree}":
            for entry in block.content.splitlines():
                name = re.sub(r".*<(.*)>", r"\1", entry.strip())
                if name and not name.startswith(":"):
                    for child in sorted(page.parent.glob(f"{name}.md")):
                        yield from navigation(child.resolve())


def test_the_navigation_has_each_page():
    """Each page of docs/ is in the navigation of the site once, below docs/index.md."""
    found = Counter(navigation(DOCS / "index.md"))
    assert dict.fromkeys(DOCS.glob("**/*.md"), 1) == found
