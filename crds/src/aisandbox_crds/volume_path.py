"""The rules for a path below the volume of models, for files of users; their Python is in output_path.py.

Must not know which fields are such paths.
"""

from __future__ import annotations

from aisandbox_crds.field_rules import CelRule

MAX_PATH_LENGTH = 1024

VOLUME_PATH_RULES = (
    CelRule("!self.startsWith('/')", "must be relative to the volume of models, not absolute"),
    CelRule("!self.matches('(^|/)[.][.](/|$)')", "must not contain '..'"),
    CelRule(
        r"!self.contains(':') && !self.contains('\\')",
        "must have / between folders, and no backslash or colon",
    ),
    CelRule("!self.matches('(^|/)[.]?$') || self == ''", "must end in a file name"),
    CelRule(
        "!self.matches('(?i)^([.]?/+)*runs(/|$)')",
        "must not be in the folder 'runs', which holds the service's own files",
    ),
    CelRule(
        r"!self.matches(r'[\p{C}\p{Zl}\p{Zp}\x{A0}\x{1680}\x{2000}-\x{200A}\x{202F}\x{205F}\x{3000}]')",
        "must have no control characters",
    ),
    CelRule(
        "!self.matches('(?i)( |[^/.][.]+|(^|/)[.]{3,}|(^|/)(con|prn|aux|nul|com[0-9]|lpt[0-9])([.][^/]*)?)(/|$)')",
        "must have no name that ends in a dot or space or is a device on Windows",
    ),
)
