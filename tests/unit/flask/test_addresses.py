"""Rules of Flask's as spans and counts show them."""

from __future__ import annotations

import pytest

from writebehind.flask.addresses import DOCUMENT, template


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (DOCUMENT, "/v1/{collection}/{id}"),
        ("/", "/"),
        ("/shops/<int(min=1):shop>/x", "/shops/{shop}/x"),
        ('/<regex("a:b"):one>/<path:rest>', "/{one}/{rest}"),
    ],
)
def test_a_rule_as_a_template(rule, expected):
    """Each variable is its name alone, whatever its converter."""
    assert expected == template(rule)
