"""One module for each command, or for commands about the same thing; :mod:`aisandbox_cli.main` lists them."""
