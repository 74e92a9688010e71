#!/usr/bin/python
# Copyright: the virtcpr developers
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

DOCUMENTATION = r"""
---
module: virtcpr_certify
short_description: Whether guests could be moved to a QEMU that isn't installed
version_added: 0.2.0
description:
  - A twin of each shape of running guest tries it, there and back, as C(virtcpr certify).
  - No guest is touched, and nothing is installed.
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
    description: Names or UUIDs.
    type: list
    elements: str
  all:
    description: Every running domain.
    type: bool
    default: false
  emulator:
    description: The candidate is a QEMU on the host.
    type: path
  packages:
    description: The candidate is in these Debian packages, files on the host.
    type: list
    elements: path
  from_archive:
    description: The candidate is what apt would upgrade the installed QEMU to.
    type: bool
    default: false
  mode:
    description: How the guests would be moved; V(auto) is the first mode that each is ready for.
    type: str
    choices: [auto, transfer, live, reboot]
    default: auto
  exclude:
    description: Patterns of names that are left out, with O(all=true).
    type: list
    elements: str
  fail_on_no_go:
    description: Fail if a guest couldn't be moved.
    type: bool
    default: true
"""

EXAMPLES = r"""
- name: Could all guests go to what apt would install?
  virtcpr.virtcpr.virtcpr_certify:
    all: true
    from_archive: true
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


def candidate(params):
    if params["from_archive"]:
        return ["--from-archive"]
    packages = [word for path in params["packages"] or [] for word in ("--package", path)]
    return packages or ["--emulator", params["emulator"]]


def main():
    sources = ("emulator", "packages", "from_archive")
    module = AnsibleModule(
        argument_spec={
            **virtcpr.COMMON,
            **virtcpr.DOMAINS,
            "emulator": {"type": "path"},
            "packages": {"type": "list", "elements": "path"},
            "from_archive": {"type": "bool", "default": False},
            "mode": {"type": "str", "choices": ["auto", "transfer", "live", "reboot"], "default": "auto"},
            "exclude": {"type": "list", "elements": "str"},
            "fail_on_no_go": {"type": "bool", "default": True},
        },
        mutually_exclusive=[*virtcpr.CHOICE["mutually_exclusive"], sources],
        required_one_of=[*virtcpr.CHOICE["required_one_of"], sources],
        supports_check_mode=True,
    )
    options = [*candidate(module.params), "--mode", module.params["mode"]]
    options += [word for pattern in module.params["exclude"] or [] for word in ("--exclude", pattern)]
    document = virtcpr.run(module, "certify", *options, *virtcpr.chosen(module))
    result = {"changed": False, "msg": virtcpr.summary(document["domains"], "result"), **virtcpr.report(document)}
    if document["exit_code"] == virtcpr.BLOCKED and module.params["fail_on_no_go"]:
        module.fail_json(**result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
