"""Proof under faults: SIGKILL, power loss, a full disk, damaged bytes and faults of servers, each with its control.

Run them as ``python -m memory.testing.faults kill | powerloss | diskfull | damage | servers``. Every command prints a table
of counts, takes ``--seed``, and exits with 1 on any violation. ``docs/reliability.md`` says what each one shows.

All rest on the same three things: a workload whose every write carries its own key, writer and serial number
(``workload``), a record of what was intended and what was acknowledged (``history``), and one way to read a store
whole and cross-check its answers (``examine``).
"""
