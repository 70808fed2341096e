"""What the router says about itself and lets its owner do: status, metrics, load, unload, reload."""
