#!/usr/bin/python
# Copyright: the virtcpr developers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: virtcpr_upgrade
short_description: Move running guests onto the installed QEMU
version_added: 0.2.0
description:
  - Moves running libvirt domains onto the installed QEMU, in place, as C(virtcpr upgrade).
  - A domain that runs the installed build already is left alone, so a second run changes nothing.
  - It fails if a domain wasn't moved. The guests run on in that case, unless the result of one is V(unknown).
author:
  - The virtcpr developers (@virtcpr)
requirements:
  - virtcpr on the host
attributes:
  check_mode:
    support: full
    description: What would be moved, with a rehearsal of each guest, as C(virtcpr plan).
  diff_mode:
    support: full
    description: The version of QEMU that each domain runs in, before and after.
options:
  executable:
    description: The program.
    type: path
    default: virtcpr
  uri:
    description: libvirt's connection URI; none is libvirt's default.
    type: str
  domains:
    description: Names or UUIDs.
    type: list
    elements: str
  all:
    description: Every running domain.
    type: bool
    default: false
  emulator:
    description: Another QEMU than the installed one.
    type: path
  mode:
    description: How to move them; V(auto) is transfer.
    type: str
    choices: [auto, transfer, live, reboot]
    default: auto
  fallback:
    description: How to move the domains that mode transfer can't move.
    type: str
    choices: [none, reboot]
    default: none
  exclude:
    description: Patterns of names that are left out, with O(all=true).
    type: list
    elements: str
  canary:
    description: So many domains, or those of these names, are moved first.
    type: list
    elements: str
  wave:
    description: Move at most so many domains at a time.
    type: int
  pause_between_s:
    description: Seconds between two waves.
    type: float
  stop_after:
    description: Begin no other wave after so many failures.
    type: int
  watch:
    description: Look at the guests for that long after their move, as C(300), C(5m) or C(1h); one in trouble goes back.
    type: str
  go_back:
    description: With O(watch), who goes back.
    type: str
    choices: [guest, wave]
  max_pause_ms:
    description: Leave a domain alone whose forecast pause is longer.
    type: float
  max_blackout_s:
    description: Move the domains in parts, so that libvirt's daemon is never away for longer, by the forecast.
    type: float
  rehearse:
    description: Let a twin of each guest try it first.
    type: bool
    default: true
  force:
    description: Move domains that run the installed QEMU already, too.
    type: bool
    default: false
  ignore_blocked:
    description: Don't fail if domains can't be moved and weren't touched.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Move all guests but the databases, one of them first
  virtcpr.virtcpr.virtcpr_upgrade:
    all: true
    exclude: ["db*"]
    canary: ["1"]
    wave: 10
"""

RETURN = r"""
blackout_ms:
  description: For how long libvirt's daemon was away; none if it wasn't.
  returned: success, or a failure of some domain
  type: float
rc:
  description: virtcpr's exit code.
  returned: always
  type: int
domains:
  description: What virtcpr says of each domain; its schema-1.json describes it.
  returned: success, or a failure of some domain
  type: list
  elements: dict
notes:
  description: What else there is to say.
  returned: success, or a failure of some domain
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.virtcpr.virtcpr.plugins.module_utils import virtcpr

VALUES = {
    "emulator": "--emulator",
    "max_pause_ms": "--max-pause",
    "max_blackout_s": "--max-blackout",
}
WAVES = {
    "wave": "--wave",
    "pause_between_s": "--pause-between",
    "stop_after": "--stop-after",
    "watch": "--watch",
    "go_back": "--go-back",
}


def options(params, *, waves):
    """``waves``: those that C(plan) doesn't have, too."""
    words = ["--mode", params["mode"], "--fallback", params["fallback"]]
    for name, value in {**VALUES, **(WAVES if waves else {})}.items():
        words += virtcpr.option(value, params[name])
    for pattern in params["exclude"] or []:
        words += ["--exclude", pattern]
    for canary in (params["canary"] or []) if waves else []:
        words += ["--canary", canary]
    words += ["--force"] if params["force"] else []
    return words + ([] if params["rehearse"] else ["--no-rehearse"])


def main():
    module = AnsibleModule(
        argument_spec={
            **virtcpr.COMMON,
            **virtcpr.DOMAINS,
            "emulator": {"type": "path"},
            "mode": {"type": "str", "choices": ["auto", "transfer", "live", "reboot"], "default": "auto"},
            "fallback": {"type": "str", "choices": ["none", "reboot"], "default": "none"},
            "exclude": {"type": "list", "elements": "str"},
            "canary": {"type": "list", "elements": "str"},
            "wave": {"type": "int"},
            "pause_between_s": {"type": "float"},
            "stop_after": {"type": "int"},
            "watch": {"type": "str"},
            "go_back": {"type": "str", "choices": ["guest", "wave"]},
            "max_pause_ms": {"type": "float"},
            "max_blackout_s": {"type": "float"},
            "rehearse": {"type": "bool", "default": True},
            "force": {"type": "bool", "default": False},
            "ignore_blocked": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
        **virtcpr.CHOICE,
    )
    if module.check_mode:
        words = options(module.params, waves=False)
        document = virtcpr.run(module, "plan", *words, *virtcpr.chosen(module))
    else:
        words = ["--yes", *options(module.params, waves=True)]
        document = virtcpr.run(module, "upgrade", *words, *virtcpr.chosen(module))
    virtcpr.end(module, document, planned=module.check_mode)


if __name__ == "__main__":
    main()
