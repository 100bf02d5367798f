"""Tools for authors of backends: the contract suite, the model machine, fault tools. Needs the extra ``test``.

- ``memory.testing.contract``: subclass ``StoreContract``, say how a store is made, and pytest runs every sentence.
- ``memory.testing.machine``: random programs against a plain model; ``python -m memory.testing machine --help``.
- ``memory.testing.differential``: one random sequence on several stores, compared step by step.
- ``memory.testing.storm``: many callers, a third of their calls cancelled.
- ``memory.testing.faults``: SIGKILL, power loss, full disks, damage, servers that die or fall silent.
- ``memory.testing.proxy``, ``memory.testing.services``: a network with faults before a real server, started for a test.
- ``memory.testing.heartbeat``: how long an event loop was held.
- ``memory.testing.stepping``: one call, cancelled at a suspension of its own.
- ``memory.testing.twins``: a store seen through its synchronous twins, so that the same sentences run over them.
"""

from __future__ import annotations

import sys

if "pytest" in sys.modules:
    import pytest

    # So that a failed assertion of a sentence shows its values, as in the tests of the subclass itself.
    pytest.register_assert_rewrite("memory.testing.contract", "memory.testing.machine")
