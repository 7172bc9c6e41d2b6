"""Simulated venues with planted opportunities, and the judge of what an engine made of them.

``plan`` and ``market`` make the events of a run, sans I/O and by seed; ``server`` speaks them over
real TLS sockets (``python -m crosswire.sim``, which ``process`` starts) and ``recorded`` writes
them as a recording; ``oracle`` tells the truth about a recording, slowly and plainly; ``judge``
compares an engine's signals with it; ``proof`` tells whether the recording is all that it had to
be. ``chaos`` forwards connections and strikes them with ``faults``. ``quota`` counts requests as a
venue does.
"""

from .chaos import ChaosProxy, ProxiedConnection
from .faults import FAULT_KINDS, Account, Chaos, Fault, Strike
from .judge import Verdict, judge
from .market import Event, generate, net_bps
from .oracle import Close, Interval, Point, Truth, find_truth
from .plan import Plan, Plant, Scenario, make_plan
from .proof import Connection, find_doubts, load_sent
from .quota import Hit, Ledger, Overshoot, Ruling, Tally, VenueLimit
from .recorded import config_of, record

__all__ = [
    "FAULT_KINDS",
    "Account",
    "Chaos",
    "ChaosProxy",
    "Close",
    "Connection",
    "Event",
    "Fault",
    "Hit",
    "Interval",
    "Ledger",
    "Overshoot",
    "Plan",
    "Plant",
    "Point",
    "ProxiedConnection",
    "Ruling",
    "Scenario",
    "Strike",
    "Tally",
    "Truth",
    "VenueLimit",
    "Verdict",
    "config_of",
    "find_doubts",
    "find_truth",
    "generate",
    "judge",
    "load_sent",
    "make_plan",
    "net_bps",
    "record",
]
