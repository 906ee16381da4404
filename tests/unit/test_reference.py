"""The page of settings."""

from pathlib import Path

from writebehind.settings.reference import settings_reference


def test_the_page_is_up_to_date():
    """docs/settings.md says what the code says: `writebehind settings > docs/settings.md` writes it."""
    assert settings_reference() == Path(__file__).parents[2].joinpath("docs/settings.md").read_text("utf-8")
