"""The settings, read once into frozen objects. Imports `mql` and below, for what settings are made of."""
