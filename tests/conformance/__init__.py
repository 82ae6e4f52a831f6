"""The recordings of real servers, as a suite for the sandbox and for any other server.

``python -m tests.conformance`` prints a table; ``ARROYO_URL`` points it at a real server.
"""
