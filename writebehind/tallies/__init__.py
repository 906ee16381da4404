"""Counts that a process keeps of what it does, in memory that outlives it: families, tallies, and their files.

Whoever does something worth counting may import this; it imports nothing but what is for all. What becomes of the
counts is for `monitoring`.
"""
