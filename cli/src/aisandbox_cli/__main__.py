"""``python -m aisandbox_cli`` runs the program ``aisandbox``."""

import sys

from aisandbox_cli.main import main

sys.exit(main())
