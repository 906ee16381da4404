"""The API described as OpenAPI, built from the settings."""
