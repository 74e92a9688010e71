#!/usr/bin/python
# Copyright: the virtcpr developers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: virtcpr_prepare
short_description: Make domains ready to be moved
version_added: 0.2.0
description:
  - Prepares the persistent XML of libvirt domains, as C(virtcpr prepare).
  - With O(live=true) running guests are made ready as they run; their RAM is copied once.
author:
  - The virtcpr developers (@virtcpr)
requirements:
  - virtcpr on the host
attributes:
  check_mode:
    support: full
    description: Nothing is written; with O(live=true) it doesn't say which guests would be moved.
  diff_mode:
    support: full
    description: The changes of each domain, passwords masked.
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
    description: Every domain, running or not.
    type: bool
    default: false
  live:
    description: Make running domains ready at once, without a restart of the guest.
    type: bool
    default: false
  mode:
    description: For which mode.
    type: str
    choices: [transfer, reboot]
    default: transfer
  state:
    description: V(restored) takes the preparation back.
    type: str
    choices: [prepared, restored]
    default: prepared
  ignore_blocked:
    description: Don't fail if domains can't be prepared and nothing else is wrong.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Prepare every domain, and show what is changed
  virtcpr.virtcpr.virtcpr_prepare:
    all: true
  diff: true
"""

RETURN = r"""
moves:
  description: What became of the running domains that were to be made ready, with O(live=true).
  returned: success, or a failure of some domain
  type: list
  elements: dict
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


def main():
    module = AnsibleModule(
        argument_spec={
            **virtcpr.COMMON,
            **virtcpr.DOMAINS,
            "live": {"type": "bool", "default": False},
            "mode": {"type": "str", "choices": ["transfer", "reboot"], "default": "transfer"},
            "state": {"type": "str", "choices": ["prepared", "restored"], "default": "prepared"},
            "ignore_blocked": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
        **virtcpr.CHOICE,
    )
    options = ["--mode", module.params["mode"]]
    options += ["--undo"] if module.params["state"] == "restored" else []
    if module.check_mode:
        options.append("--dry-run")
    else:
        options += ["--yes", *(["--live"] if module.params["live"] else [])]
    document = virtcpr.run(module, "prepare", *options, *virtcpr.chosen(module))
    moved = document.get("moves", {}).get("domains", [])
    result = {
        "changed": any(domain["result"] in ("prepared", "restored") for domain in document["domains"])
        or any(domain["result"] == "upgraded" for domain in moved),
        "msg": virtcpr.summary(document["domains"], "result"),
        "diff": [{"prepared": domain["diff"]} for domain in document["domains"] if domain["diff"]],
        "moves": moved,
        **virtcpr.report(document),
    }
    results = [domain["result"] for domain in (*document["domains"], *moved)]
    if document["exit_code"] not in (0, virtcpr.SOME, virtcpr.BLOCKED) or virtcpr.bad(module, document, results):
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
