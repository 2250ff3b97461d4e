"""What every part of an attempt shares: settings, the request to stop, the progress. Must not know training."""
