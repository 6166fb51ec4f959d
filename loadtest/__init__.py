"""Load on a running service, over HTTP alone: who comes, how fast, and whether that was well.

*Due* is when a request was scheduled to be sent, and what its latency counts from. *Open loop*:
requests come at a rate, whatever the service does. *Closed loop*: users who ask again once
answered.
"""
