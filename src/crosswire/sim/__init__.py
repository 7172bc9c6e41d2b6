"""Simulated venues with planted opportunities, and the judge of what an engine made of them.

``plan`` and ``market`` make the events of a run, sans I/O and by seed; ``server`` speaks them over
real TLS sockets (``python -m crosswire.sim``, which ``process`` starts) and ``recorded`` writes
them as a recording; ``oracle`` tells the truth about a recording, slowly and plainly; ``judge``
compares an engine's signals with it; ``proof`` tells whether the recording is all that it had to
be. ``chaos`` forwards connections and strikes them with ``faults``. ``rest`` is a
venue's REST side over HTTP/1.1 and HTTP/2, whose requests ``quota`` counts, also without it.
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
from .rest import RestAccount, RestServer
from .rest_faults import REST_FAULT_KINDS, Latency, RestChaos, RestFault
from .rest_venue import (
    Answer,
    Route,
    Routes,
    SimOrder,
    SimQuotes,
    SimRequest,
    SimVenue,
    json_answer,
)
from .rest_wire import RestEntry

__all__ = [
    "FAULT_KINDS",
    "REST_FAULT_KINDS",
    "Account",
    "Answer",
    "Chaos",
    "ChaosProxy",
    "Close",
    "Connection",
    "Event",
    "Fault",
    "Hit",
    "Interval",
    "Latency",
    "Ledger",
    "Overshoot",
    "Plan",
    "Plant",
    "Point",
    "ProxiedConnection",
    "RestAccount",
    "RestChaos",
    "RestEntry",
    "RestFault",
    "RestServer",
    "Route",
    "Routes",
    "Ruling",
    "Scenario",
    "SimOrder",
    "SimQuotes",
    "SimRequest",
    "SimVenue",
    "Strike",
    "Tally",
    "Truth",
    "VenueLimit",
    "Verdict",
    "config_of",
    "find_doubts",
    "find_truth",
    "generate",
    "json_answer",
    "judge",
    "load_sent",
    "make_plan",
    "net_bps",
    "record",
]
