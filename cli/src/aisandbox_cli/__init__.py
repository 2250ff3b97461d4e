"""The command line of the AISandbox RL Training Service."""
