"""``python -m aisandbox_cli`` is the command ``aisandbox``."""

import sys

from aisandbox_cli.main import main

sys.exit(main())
