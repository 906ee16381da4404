"""The command: `writebehind`, and `python -m writebehind`."""

from __future__ import annotations

from writebehind.loading import loading


def main() -> None:
    """Load the command, and run it."""
    with loading():
        from writebehind.cli import main as run  # noqa: PLC0415 - within it
    run()


if __name__ == "__main__":
    main()
