"""A suite that compares the sandbox, or any other server, with the recordings of real servers.

``python -m tests.conformance`` prints a table; ``ARROYO_URL`` points it at a real server.
"""
