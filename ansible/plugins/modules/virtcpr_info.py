#!/usr/bin/python
# Copyright: the virtcpr developers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: virtcpr_info
short_description: Which domains run which QEMU
version_added: 0.2.0
description:
  - Lists libvirt domains, the QEMU that each runs in, and the installed one, as C(virtcpr list).
author:
  - The virtcpr developers (@virtcpr)
requirements:
  - virtcpr on the host
attributes:
  check_mode:
    support: full
    description: It changes nothing.
  diff_mode:
    support: none
    description: It changes nothing.
options:
  executable:
    description: The program.
    type: path
    default: virtcpr
  uri:
    description: libvirt's connection URI; none is libvirt's default.
    type: str
  domains:
    description: Names or UUIDs; all domains without it.
    type: list
    elements: str
"""

EXAMPLES = r"""
- name: Look at the guests
  virtcpr.virtcpr.virtcpr_info:
  register: guests

- name: Say which are outdated
  ansible.builtin.debug:
    msg: "{{ guests.outdated }}"
"""

RETURN = r"""
outdated:
  description: The names of the running domains with an outdated QEMU.
  returned: success
  type: list
  elements: str
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
    arguments = {**virtcpr.COMMON, "domains": {"type": "list", "elements": "str"}}
    module = AnsibleModule(argument_spec=arguments, supports_check_mode=True)
    document = virtcpr.run(module, "list", "--", *(module.params["domains"] or []))
    outdated = [domain["name"] for domain in document["domains"] if domain["outdated"]]
    module.exit_json(changed=False, outdated=outdated, **virtcpr.report(document))


if __name__ == "__main__":
    main()
