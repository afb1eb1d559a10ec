"""The services of containerd's API that this version does not offer.

A method of theirs answers UNIMPLEMENTED whatever it is sent, which is what containerd's clients expect of
a daemon without the plugin, and fall back on.
"""

from __future__ import annotations

SERVICES = {
    "containerd.services.sandbox.v1.Controller": "the sandbox controller",
}
"""Their names, and what they are in words."""
