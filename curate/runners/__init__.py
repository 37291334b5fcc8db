"""Where stages run: on this machine or on a cluster."""
