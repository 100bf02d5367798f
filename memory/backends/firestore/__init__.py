"""Google's Firestore. ``connection``: calls; ``values``, ``queries``, ``document``: what they carry; ``faults``, ``breaker``,
``meter``, ``lanes``: what bounds them. ``v2`` and ``v1``: the backends, named after the layouts that they share with older programs."""
