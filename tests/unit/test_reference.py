"""Pages that are written from the code."""

from pathlib import Path

from writebehind.monitoring.reference import metrics_reference
from writebehind.settings.reference import settings_reference


def test_the_page_of_settings_is_up_to_date():
    """docs/settings.md says what the code says: `writebehind settings > docs/settings.md` writes it."""
    assert settings_reference() == Path(__file__).parents[2].joinpath("docs/settings.md").read_text("utf-8")


def test_the_page_of_metrics_is_up_to_date():
    """docs/metrics.md says what the code says: `writebehind metrics > docs/metrics.md` writes it."""
    assert metrics_reference() == Path(__file__).parents[2].joinpath("docs/metrics.md").read_text("utf-8")
