#!/usr/bin/python
# Copyright: the virtcpr developers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: virtcpr_undo
short_description: Move the guests of a batch back to the QEMU that they came from
version_added: 0.2.0
description:
  - Moves the domains of a batch back to the build of QEMU that they ran in before it, as C(virtcpr undo).
  - It fails if a domain can't go back. The guests run on in that case, unless the result of one is V(unknown).
author:
  - The virtcpr developers (@virtcpr)
requirements:
  - virtcpr on the host
attributes:
  check_mode:
    support: full
    description: What would be moved, with a rehearsal of each guest.
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
  batch:
    description:
      - Its number in the history.
      - None is the last one that moved something and wasn't taken back, so a second run takes back the one before.
    type: int
  rehearse:
    description: Let a twin of each guest try it first.
    type: bool
    default: true
  ignore_blocked:
    description: Don't fail if domains can't go back and weren't touched.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Take back what was moved last
  virtcpr.virtcpr.virtcpr_undo:
"""

RETURN = r"""
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
            "batch": {"type": "int"},
            "rehearse": {"type": "bool", "default": True},
            "ignore_blocked": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    words = [] if module.params["rehearse"] else ["--no-rehearse"]
    words += ["--dry-run"] if module.check_mode else ["--yes"]
    words += [] if module.params["batch"] is None else [str(module.params["batch"])]
    document = virtcpr.run(module, "undo", *words)
    virtcpr.end(module, document, planned=module.check_mode)


if __name__ == "__main__":
    main()
