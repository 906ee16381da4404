"""The page for operators, `/console`: its route, and its files in `page/`, which need no build step."""
