"""The command line of the AISandbox RL Training Service.

Its interface is the program ``aisandbox`` (see ``aisandbox --help``), also started by ``python -m aisandbox_cli``. All
modules are internal.
"""

__all__: list[str] = []
