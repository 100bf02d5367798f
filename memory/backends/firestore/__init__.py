"""Google's Firestore. ``store``: what every store there is; ``connection``: calls, and ``values``, ``queries``, ``document``: what they
carry; ``faults``, ``meter``, ``lanes``, ``pacing``: what bounds them; ``records``: documents with our fields beside older
ones; ``deciding``, ``writing``, ``locks``, ``spaces``, ``sweeping``: writes. ``v2`` and ``v1``: the backends, named after the layouts
that they share with older programs."""
