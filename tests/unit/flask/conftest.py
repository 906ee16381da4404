"""The pipeline of the tests of the API, for applications of others."""

from tests.unit.web.conftest import application, client, installation

__all__ = ["application", "client", "installation"]
